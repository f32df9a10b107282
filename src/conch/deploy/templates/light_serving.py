"""What every model.py here builds on: settings, request parameters, batches, and errors of single requests.

It needs numpy alone. It lies beside model.py and belongs to this model alone: change it as you like.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import triton_python_backend_utils as pb_utils

Row = dict[str, np.ndarray]  # one sample: input name -> its tensor without the batch dimension
Outputs = dict[str, Any]  # output name -> its value without the batch dimension, or a function that makes it
Infer = Callable[..., Sequence[Outputs | Exception]]


def parse_template(value: str) -> str:
    """Text with one "{}"; the rest of Python's format language could make a small request use all memory."""
    if value.count("{}") != 1 or set(value.replace("{}", "")) & set("{}"):
        raise ValueError("it needs exactly one {} and no other braces")
    return value


def parse_texts(value: Any) -> list[str]:
    """One text, or a list of texts; a list may come as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:  # a text that begins with a bracket
            value = [value]
    texts = [value] if isinstance(value, str) else list(value)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError("expected a text or a list of texts, none of them empty")
    return texts


def parse_object(value: str) -> dict[str, Any]:
    """A JSON object."""
    parsed = json.loads(value)
    if not isinstance(parsed, dict):
        raise ValueError("expected a JSON object")
    return parsed


PARSERS: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "bool": lambda value: value.strip().lower() in ("1", "true", "yes") if isinstance(value, str) else bool(value),
    "str": str,
    "list": lambda value: json.loads(value) if value.lstrip().startswith("[") else value.split(","),
    "json": json.loads,
    "object": parse_object,
    "template": parse_template,
    "texts": parse_texts,
    "generation": lambda value: json.loads(value) if isinstance(value, str) else value,
    "any": lambda value: value,
}


MOST = 2**63 - 1  # of a whole number without another bound
ACTIVATIONS = ("none", "softmax", "sigmoid")
UNEQUAL = "the rows of the request have unequal sizes and padding would change their results: send a request for each"


class Settings:
    """config.pbtxt and the arguments of `initialize`, as the models here read them.

    `fill` and `fill_left` say how outputs of unequal size are padded to one batch: output name -> value (0 where it is
    not named), and the outputs whose last dimension grows at its start. `arrange` changes the samples of a request
    before they are made a batch.
    """

    parsers: ClassVar[Mapping[str, Callable[[Any], Any]]] = PARSERS

    def __init__(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.values = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.task = self.values["task"]
        self.version = Path(args["model_repository"], args["model_version"])
        self.max_batch_size: int = config["max_batch_size"]
        self.batched = self.max_batch_size > 0
        self.input_names = frozenset(each["name"] for each in config["input"])
        self.output_types = {output["name"]: output["data_type"] for output in config["output"]}
        self.parameter_kinds = dict(item.split(":") for item in self.values.get("request_parameters", "").split())
        self.defaults = json.loads(self.values.get("default_parameters", "{}"))
        # Another part, which runs at the same time, reads the parameters and refuses those that are wrong.
        self.reads_parameters = self.values.get("reads_parameters") != "false"
        # Outputs that a network would not tell from their padding: rows of one request need equal sizes.
        self.unpadded = frozenset(self.values.get("unpadded", "").split())
        self.fill: dict[str, Any] = {}
        self.fill_left: frozenset[str] = frozenset()
        self.arrange: Callable[[list[Outputs]], list[Outputs]] = lambda samples: samples

    def read_json(self, name: str) -> Any:
        """The JSON file of that name beside model.py."""
        return json.loads(Path(self.version, name).read_text("utf-8"))

    def parameters(self, request: Any) -> dict[str, Any]:
        """The parameters of one request over the model's defaults; text is parsed as the parameter's kind."""
        if not self.reads_parameters:
            return {}
        sent = json.loads(request.parameters() or "{}")
        unknown = sorted(sent.keys() - self.parameter_kinds.keys())
        if unknown:
            known = ", ".join(sorted(self.parameter_kinds)) or "none"
            raise ValueError(f"unknown request parameters {unknown}; {self.task} takes: {known}")
        parsed = dict(self.defaults)
        for name, value in sent.items():
            kind = self.parameter_kinds[name]
            try:
                parsed[name] = None if value == "null" else self.parse(kind, value)
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"request parameter {name!r} should be of kind {kind}, got {value!r}: {error}"
                ) from error
        return parsed

    def parse(self, kind: str, value: Any) -> Any:
        """A value as that kind: one of those of `parsers`, `int[1..8]` and `int[1..]` within bounds, or `one|other`."""
        if "|" in kind:
            if str(value).lower() not in kind.split("|"):
                raise ValueError("it is none of these")
            return value.lower()
        name, _, bounds = kind.rstrip("]").partition("[")
        parsed = self.parsers[name](value)
        if bounds:
            least, most = bounds.split("..")
            if not int(least) <= parsed <= int(most or MOST):
                raise ValueError("it is out of bounds")
        return parsed


def activation(settings: Settings, function_to_apply: str | None) -> list[int]:
    """What makes scores of logits, as the networks here read it: 0 nothing, 1 softmax, 2 sigmoid.

    The setting `function_to_apply` is the checkpoint's own, which a request may replace.
    """
    name = (function_to_apply or settings.values.get("function_to_apply", "none")).lower()
    if name not in ACTIVATIONS:
        raise ValueError(f"function_to_apply should be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return [ACTIVATIONS.index(name)]


def answer(
    requests: Sequence[Any], settings: Settings, decode: Callable[..., Any], infer: Infer, cancellable: bool = False
) -> list[Any]:
    """Exactly one response a request.

    `decode(row)` turns the input tensors of one sample into what `infer(samples, **parameters)` takes a list of. The
    samples of all requests that sent the same parameters are inferred together; what goes wrong with one request
    becomes the error of that request alone. With `cancellable`, `decode(row, cancelled)` is given what tells whether
    the client gave its request up.
    """
    failures: dict[int, Exception] = {}
    groups: dict[str, list[tuple[int, Any]]] = {}
    for index, request in enumerate(requests):
        try:
            key = json.dumps(settings.parameters(request), sort_keys=True)
            more = (request.is_cancelled,) if cancellable else ()
            samples = [decode(row, *more) for row in rows(request, settings.batched)]
            if not samples:
                raise ValueError("the request is empty: its batch dimension is 0")
            groups.setdefault(key, []).extend((index, sample) for sample in samples)
        except Exception as error:
            failures[index] = error if isinstance(error, ValueError) else ValueError(f"{type(error).__name__}: {error}")
    results: list[list[Outputs]] = [[] for _ in requests]
    for key, members in groups.items():
        outcomes = infer_or_isolate(infer, [sample for _, sample in members], json.loads(key))
        for (index, _), outcome in zip(members, outcomes, strict=True):
            if isinstance(outcome, Exception):
                failures[index] = outcome
            else:
                results[index].append(outcome)
    return [
        failure(failures[index]) if index in failures else response(request, results[index], settings)
        for index, request in enumerate(requests)
    ]


def rows(request: Any, batched: bool) -> list[Row]:
    """The request's samples: one a row of its batch dimension."""
    arrays = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    if not batched:
        return [arrays]
    size = len(next(iter(arrays.values()), ()))
    return [{name: array[row] for name, array in arrays.items()} for row in range(size)]


def infer_or_isolate(infer: Infer, samples: list[Any], parameters: dict[str, Any]) -> list[Outputs | Exception]:
    """Infer all samples at once; when that fails, each alone, so that only the culprit ends in an error."""
    try:
        return list(infer(samples, **parameters))
    except BaseException as error:
        failed = error if isinstance(error, Exception) else of_panic(error)
        if len(samples) == 1:
            return [failed]
        return [outcome for sample in samples for outcome in infer_or_isolate(infer, [sample], parameters)]


def of_panic(error: BaseException) -> Exception:
    """What a panic of a library in Rust is to the client, which pyo3 raises past `except Exception`; else raises it.

    The tokenizers library panics where parts of a text should overlap by as many tokens as they have.
    """
    if type(error).__name__ != "PanicException":
        raise error
    return ValueError(f"cannot cut the text: {error}") if "stride" in str(error) else RuntimeError(str(error))


def failure(error: Exception) -> Any:
    """The error response of one request."""
    asked_wrong = isinstance(error, (ValueError, OverflowError))  # a number too large, or below 0 where it must not be
    code = pb_utils.TritonError.INVALID_ARG if asked_wrong else pb_utils.TritonError.INTERNAL
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))


def response(request: Any, results: list[Outputs], settings: Settings) -> Any:
    """The outputs the request asked for; only those are made."""
    tensors = []
    wanted = set(request.requested_output_names())
    results = settings.arrange(results)
    for name in settings.output_types:
        if name in wanted and name in results[0]:
            values = [result[name]() if callable(result[name]) else result[name] for result in results]
            arrays = [as_array(value, settings.output_types[name]) for value in values]
            if name in settings.unpadded and len({array.shape for array in arrays}) > 1:
                return failure(ValueError(UNEQUAL))
            stacked = stack(arrays, settings.fill.get(name), name in settings.fill_left)
            tensors.append(pb_utils.Tensor(name, stacked if settings.batched else arrays[0]))
    return pb_utils.InferenceResponse(output_tensors=tensors)


def as_array(value: Any, data_type: str) -> np.ndarray:
    """A tensor, array or nested list as a numpy array of the declared data type; text becomes UTF-8."""
    if hasattr(value, "detach"):  # a torch tensor
        value = value.float().cpu().numpy() if value.is_floating_point() else value.cpu().numpy()
    if data_type != "TYPE_STRING":
        return np.ascontiguousarray(value, dtype=pb_utils.triton_string_to_numpy(data_type))
    array = np.array(value, dtype=object)
    flat = [item.encode() if isinstance(item, str) else item for item in array.reshape(-1)]
    return np.array([*flat, None], dtype=object)[:-1].reshape(array.shape)


def stack(arrays: list[np.ndarray], fill: Any = None, left: bool = False) -> np.ndarray:
    """The samples along a new batch dimension, padded to the largest of them: at the end, with 0 (text with "") or
    `fill`; `left` pads the last dimension at its start."""
    if len(arrays) == 1:
        return arrays[0][None]
    shape = [max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    empty = b"" if arrays[0].dtype == object else 0
    stacked = np.full([len(arrays), *shape], empty if fill is None else fill, dtype=arrays[0].dtype)
    for row, array in enumerate(arrays):
        place = [slice(size) for size in array.shape]
        if left:
            place[-1] = slice(shape[-1] - array.shape[-1], None)
        stacked[(row, *place)] = array
    return stacked


def to_json(value: Any) -> Callable[[], list[str]]:
    """What a pipeline returned as JSON text, made if asked for: images and masks as base64 PNG, tensors as lists."""
    return lambda: [json.dumps(value, default=_json_default, ensure_ascii=False)]


def _json_default(value: Any) -> Any:
    if hasattr(value, "detach"):  # a torch tensor; numpy knows no bfloat16
        value = (value.float() if value.is_floating_point() and value.itemsize == 2 else value).cpu().numpy()
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype in (bool, np.uint8):
        from PIL import Image

        value = Image.fromarray(value.astype(np.uint8) * (255 if value.dtype == bool else 1))
    if hasattr(value, "save"):
        buffer = io.BytesIO()
        value.save(buffer, format="PNG")
        return base64.b64encode(buffer.getvalue()).decode()
    return value.tolist() if hasattr(value, "tolist") else str(value)
