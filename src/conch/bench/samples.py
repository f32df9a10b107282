"""Inputs for a model's load, from what its metadata and its configuration's parameter `task` say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random

import msgspec
import numpy as np

from conch.bench import sample_media, sample_texts
from conch.bench.target import Target, TargetInput
from conch.errors import InvalidArgumentError
from conch.inference import Parameter
from conch.tensor import DataType

#: Inputs of one request by name, without the batch dimension; BYTES are object arrays of `bytes`.
Sample = Mapping[str, np.ndarray]

#: Parameters that keep generation short and the same from run to run, unless told otherwise.
GENERATION: Mapping[str, Parameter] = {"max_new_tokens": 16, "do_sample": False}
_GENERATING = (
    *("text-generation", "image-text-to-text", "any-to-any"),
    *("text2text-generation", "summarization", "translation"),
)

#: Optional inputs worth sending, each list an alternative: the first that the model accepts is taken.
_OPTIONAL: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "text-generation": (("text",),),
    "image-text-to-text": (("messages", "image"), ("text", "image"), ("text",)),
    "any-to-any": (("text",), ("messages",)),
    "document-question-answering": (("image", "word_boxes"), ("image",)),
}
_MASKS = ("[MASK]", "<mask>")


class Wishes(msgspec.Struct, frozen=True):
    """What the user asked for.

    Attributes:
        shapes: input -> dims, for inputs with dimensions of any size.
        fixed: inputs whose value is given; they are not made.
        count: how many different requests to make.
    """

    shapes: Mapping[str, tuple[int, ...]] = {}
    fixed: frozenset[str] = frozenset()
    count: int = 32
    seed: int = 0


def alternatives(target: Target, wishes: Wishes) -> list[Callable[[], list[Sample]]]:
    """Ways to make samples, the likeliest to be accepted first. A model's mask token and the form its conversations
    take cannot be read from outside: who uses them tries one sample of each."""
    masks = _MASKS if target.task == "fill-mask" else ("",)
    optional = _OPTIONAL.get(target.task, ((),))
    return [
        lambda mask=mask, names=names: make_samples(target, wishes, names, mask)  # type: ignore[misc]
        for names in optional
        for mask in masks
    ]


def default_parameters(target: Target) -> Mapping[str, Parameter]:
    """Request parameters that the model's task needs for load to make sense."""
    return GENERATION if target.task in _GENERATING else {}


def make_samples(target: Target, wishes: Wishes, optional: Sequence[str] = (), mask: str = "") -> list[Sample]:
    """`wishes.count` samples.

    Raises:
        InvalidArgumentError: an input has a dimension of any size and its shape was not given.
        UnavailableError: a library that makes media is missing.
    """
    random = Random(wishes.seed)
    made = [
        spec for spec in target.inputs if spec.name not in wishes.fixed and (not spec.optional or spec.name in optional)
    ]
    return [{spec.name: _input(target, spec, wishes, random, mask) for spec in made} for _ in range(wishes.count)]


def _input(target: Target, spec: TargetInput, wishes: Wishes, random: Random, mask: str) -> np.ndarray:
    dims = wishes.shapes.get(spec.name)
    if spec.datatype is not DataType.BYTES:
        return _numbers(spec, dims, random)
    kind = _kind(target, spec)
    if kind is not None:
        return _bytes(kind(target, spec, random), dims or _known(spec.dims))
    value = sample_texts.text(random)
    if mask:
        first, _, rest = value.partition(" ")
        value = f"{first} {mask} {rest}"
    return _bytes([value], dims or _known(spec.dims))


def _known(dims: tuple[int, ...]) -> tuple[int, ...] | None:
    return None if -1 in dims else dims


def _bytes(values: Sequence[str | bytes], dims: tuple[int, ...] | None) -> np.ndarray:
    """The values as they are, or as often as `dims` asks for them."""
    shape = (len(values),) if dims is None else dims
    array = np.empty(shape, dtype=object)
    flat = array.reshape(-1)
    for index in range(flat.size):
        value = values[index % len(values)]
        flat[index] = value if isinstance(value, bytes) else value.encode()
    return array


def _numbers(spec: TargetInput, dims: tuple[int, ...] | None, random: Random) -> np.ndarray:
    name = spec.name.lower()
    if dims is None and name == "image" and spec.dims[-3:] == (-1, -1, 3):
        image = sample_media.pixels(random).astype(spec.datatype.dtype)
        return image if len(spec.dims) == 3 else np.stack([image] * _count(spec))
    if dims is None and name == "audio" and spec.dims == (-1,):
        return sample_media.sound(random).astype(spec.datatype.dtype)
    if dims is None:
        if -1 in spec.dims:
            example = ",".join("16" if dim == -1 else str(dim) for dim in spec.dims)
            raise InvalidArgumentError(
                f"input '{spec.name}' is {spec.datatype.value} {list(spec.dims)}: say how large to make it, e.g. "
                f"--shape {spec.name}:{example}"
            )
        dims = spec.dims
    generator = np.random.default_rng(random.getrandbits(32))
    dtype = spec.datatype.dtype
    if spec.datatype is DataType.BF16:
        return (generator.random(dims, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if "mask" in name:
        return np.ones(dims, dtype)
    if dtype.kind == "f":
        return generator.random(dims).astype(dtype)
    return generator.integers(0, 2 if dtype.kind == "b" else 100, dims).astype(dtype)


_Kind = Callable[[Target, TargetInput, Random], Sequence[str | bytes]]


def _kind(target: Target, spec: TargetInput) -> _Kind | None:
    """What makes an input's values, by task and name; None for a plain text."""
    by_task = _BY_TASK.get((target.task, spec.name))
    if by_task is not None:
        return by_task
    if spec.name == "text" and -1 in spec.dims and target.task.startswith("zero-shot"):
        return lambda target, spec, random: sample_texts.LABELS
    return next((kind for word, kind in _BY_WORD.items() if word in spec.name.lower()), None)


def _count(spec: TargetInput) -> int:
    """How many files an input takes: one where any number is allowed."""
    return max(1, spec.dims[0]) if spec.dims else 1


def _page(target: Target, spec: TargetInput, random: Random) -> list[str]:
    words = sample_texts.text(random, 24).split()
    boxes = [
        [word, [40 + 150 * (at % 6), 30 + 45 * (at // 6), 170 + 150 * (at % 6), 70 + 45 * (at // 6)]]
        for at, word in enumerate(words)
    ]
    return [json.dumps(boxes)]


def _table(target: Target, spec: TargetInput, random: Random) -> list[str]:
    rows = random.randint(2, 8)
    table = {
        "thing": [sample_texts.text(random, 1).rstrip(".") for _ in range(rows)],
        "price": [str(random.randint(1, 999)) for _ in range(rows)],
    }
    return [json.dumps(table)]


def _decision(target: Target, spec: TargetInput, random: Random) -> list[str]:
    topic = {"type": "choice", "instructions": "What is it about?", "criteria": {"sea": "ships", "food": None}}
    return [json.dumps({"state": sample_texts.text(random), "questions": {"topic": topic, "short": {"type": "noul"}}})]


def _messages(target: Target, spec: TargetInput, random: Random) -> list[str]:
    text = {"type": "text", "text": sample_texts.text(random, 8)}
    pictures = any(each.name == "image" for each in target.inputs) and target.task == "image-text-to-text"
    content = [{"type": "image"}, text] if pictures else [text]
    return [json.dumps([{"role": "user", "content": content}])]


#: What needs more than its name to be told.
_BY_TASK: Mapping[tuple[str, str], _Kind] = {
    ("text-ranking", "text"): lambda target, spec, random: [sample_texts.text(random) for _ in range(4)],
    ("image-text-to-text", "text"): lambda target, spec, random: ["a photo of"],
    ("decision", "request"): _decision,
    ("table-question-answering", "table"): _table,
    ("document-question-answering", "word_boxes"): _page,
}

#: A word in an input's name -> what makes its values.
_BY_WORD: Mapping[str, _Kind] = {
    "image": lambda target, spec, random: [sample_media.jpeg(random) for _ in range(_count(spec))],
    "audio": lambda target, spec, random: [sample_media.wav(random)],
    "video": lambda target, spec, random: [sample_media.video(random)],
    "candidate_labels": lambda target, spec, random: sample_texts.TOPICS,
    "messages": _messages,
    "question": lambda target, spec, random: [random.choice(sample_texts.QUESTIONS)],
    "query": lambda target, spec, random: [random.choice(sample_texts.QUESTIONS)],
}
