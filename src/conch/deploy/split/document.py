"""Splits of models that answer questions about pages of words in boxes (LayoutLM): nothing around the network needs
transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from conch.deploy.samples import SENTENCES
from conch.deploy.split.heads import Fields, Flattened, Keyword
from conch.deploy.split.light import light_module
from conch.deploy.split.network import Network
from conch.deploy.split.parts import CannotSplit, CorePart, DoesNotApply, PaddedAxis, Split
from conch.deploy.split.stages import padded_right, python_part
from conch.deploy.split.subject import Subject, constants, model_inputs
from conch.deploy.split.tokenizer import Tokenization, light_encoder, light_tokenizer
from conch.deploy.split.tokens import MASK
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_INPUTS = ("input_ids", "bbox", MASK, "token_type_ids")
_OUTPUTS = ("start_logits", "end_logits")
_DOCS = {
    "input_ids": "token ids, the question before each part of the page",
    "bbox": "where each token stands: left, top, right, bottom in thousandths",
    MASK: "1 for a token, 0 for padding",
    "token_type_ids": "1 for the page",
}
_WORD_IDS = TensorSpec("word_ids", DataType.INT64, (-1, -1), "the word of each token; -1, -2, -3 for none")
_WORDS = TensorSpec("words", DataType.BYTES, (-1,), "the words of the page")
#: Questions and pages that prove the settings; a number stands for so many words.
_QUESTIONS = ("What did Maria buy?", "  Ünïcödé,  [CLS] 4711?", "Where")
_PAGES = (SENTENCES[1], "naïve [SEP] 東京 \U0001f41a unbelievably", 260, "", "wind")
_CUTS: tuple[Mapping[str, int], ...] = ({}, {"max_seq_len": 40, "doc_stride": 5})
_OPTIONS: tuple[Mapping[str, Any], ...] = (
    {},
    {"top_k": 4},
    {"top_k": 300, "max_answer_len": 3},
    {"top_k": 2, "handle_impossible_answer": True},
)
#: Of each batch, of each row, the question, and the page or how many words it has; the first is exported with.
_BATCHES = (((0, 0), (2, 30)), ((1, 4),), ((0, 260), (1, 20), (2, 2)))

Page = list[list[Any]]


def document_question_answering(subject: Subject) -> Split:
    """The words of a request come with it, or Tesseract reads them in the preprocess."""
    pipe = subject.pipe
    if subject.model.can_generate():
        raise DoesNotApply("it writes its answer")
    contents = page_files(pipe)
    reader = page_reader(contents)
    names = model_inputs(_INPUTS, subject.model)
    samples = [_batch(reader, batch, names) for batch in _BATCHES]
    core = _core(Keyword(subject.model, names, constants(subject.model)), names, samples, reader.fill)
    specs = {spec.name: spec for spec in core.inputs}
    preprocess = python_part(
        subject,
        "preprocess",
        "read_page.py",
        subject.plan.inputs,
        (*specs.values(), _WORD_IDS, _WORDS),
        summary="questions and pages to tokens and boxes",
        files=((), contents),
    )
    postprocess = python_part(
        subject,
        "postprocess",
        "find_answers.py",
        (*core.outputs, _WORD_IDS, _WORDS),
        subject.plan.outputs,
        summary="the answers among the words",
    )
    return Split((preprocess, core, postprocess))


def page_files(pipe: Any) -> dict[str, bytes]:
    """Contents of a part that runs `read_page.py`.

    Raises:
        CannotSplit: it would make other tensors than the pipeline's preprocess, or `find_answers.py` other answers.
    """
    tokenizer, config = pipe.tokenizer, pipe.model.config
    if pipe.model_type.value != "layoutlm" or pipe.image_processor is not None or pipe.feature_extractor is not None:
        raise CannotSplit(f"{type(pipe.model).__name__} looks at the image too, which only transformers can prepare")
    if tokenizer.cls_token_id is None:
        raise CannotSplit(f"{type(tokenizer).__name__} has no token that stands for 'no answer'")
    _, contents = light_tokenizer(tokenizer, config, Tokenization())
    settings = {
        "cls_id": tokenizer.cls_token_id,
        "sep_id": tokenizer.sep_token_id,
        "largest": int(config.max_2d_position_embeddings) - 1,
    }
    files = {**padded_right(contents), "page_settings.json": json.dumps(settings).encode()}
    _prove(pipe, page_reader(files))
    return files


def page_reader(contents: Mapping[str, bytes]) -> Any:
    """What `read_page.py` does with these files."""
    encoder = light_encoder(contents)
    if encoder.max_length is None:
        raise CannotSplit("the tokenizer does not say how long a text may be")
    return light_module("light_pages").PageReader(encoder, json.loads(contents["page_settings.json"]))


def _page(text: str | int) -> Page:
    """A page of these words, or of so many."""
    words = text.split() if isinstance(text, str) else (" ".join(SENTENCES).split() * text)[:text]
    return [[word, [40 + n % 9 * 90, 3 * n, 100 + n % 9 * 90, 3 * n + 40]] for n, word in enumerate(words)]


def _batch(reader: Any, rows: Sequence[tuple[int, int]], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Tensors [rows, parts, tokens, ..] of questions about pages, padded at the end."""
    length = min(reader.encoder.max_length, 64)
    made = [reader(_QUESTIONS[question], _page(words or SENTENCES[0]), length, length // 4) for question, words in rows]
    batch = {}
    for name in names:
        arrays = [each[name] for each in made]
        shape = [max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
        batch[name] = np.full((len(made), *shape), reader.fill[name], np.int64)
        for row, array in zip(batch[name], arrays, strict=True):
            row[tuple(map(slice, array.shape))] = array
    return batch


def _core(
    network: Keyword, names: Sequence[str], samples: Sequence[dict[str, np.ndarray]], fill: Mapping[str, int]
) -> CorePart:
    inputs = tuple(
        TensorSpec(name, DataType.INT64, (-1, -1, 4) if name == "bbox" else (-1, -1), _DOCS[name]) for name in names
    )
    outputs = tuple(TensorSpec(name, DataType.FP32, (-1, -1), "of each token of each part") for name in _OUTPUTS)
    module = Flattened(Fields(network, _OUTPUTS), names.index(MASK)).eval()
    symbols = dict(enumerate(("batch", "texts", "sequence")))
    padding = tuple(
        PaddedAxis(symbol, {name: (axis, fill[name]) for name in names}, dict.fromkeys(_OUTPUTS, axis))
        for axis, symbol in enumerate(("texts", "sequence"))
    )
    return CorePart(
        suffix="core",
        stage="core",
        summary="the network",
        inputs=inputs,
        outputs=outputs,
        network=Network(module, inputs, outputs, dict.fromkeys((*names, *_OUTPUTS), symbols), tuple(samples), MASK),
        padding=padding,
    )


def _prove(pipe: Any, reader: Any) -> None:
    """Raise CannotSplit unless questions about pages give the tensors and answers that the pipeline gives."""
    name, random = type(pipe.tokenizer).__name__, np.random.default_rng(0)
    for question, page, cut in _probes():
        try:
            made = list(pipe.preprocess({"question": question, "word_boxes": page}, **cut))
        except Exception as error:  # whatever a tokenizer raises
            reason = " ".join(str(error).split())
            raise CannotSplit(f"{name} refuses words in boxes: {reason}") from error
        got = reader(question, page, **cut)
        _compare(name, made, got)
        said = [random.normal(0, 3, (2, len(part["word_ids"]))).astype(np.float32) for part in made]
        for options in _OPTIONS:
            expected = pipe.postprocess(
                [_answered(part, *pair) for part, pair in zip(made, said, strict=True)], **options
            )
            if not _equal(expected, find_answers(said, got["word_ids"], [word for word, _ in page], **options)):
                raise CannotSplit("the pipeline finds other answers than light code")


def _probes() -> Iterator[tuple[str, Page, Mapping[str, int]]]:
    for question in _QUESTIONS:
        for text in _PAGES:
            for cut in _CUTS:
                yield question, _page(text), cut


def _compare(name: str, made: Sequence[Mapping[str, Any]], got: Mapping[str, np.ndarray]) -> None:
    if len(made) != len(got["word_ids"]):
        raise CannotSplit(f"{name} cuts a page into {len(made)} parts, light code into {len(got['word_ids'])}")
    for number, part in enumerate(made):
        tensors = {key: value[0].numpy() for key, value in part.items() if isinstance(value, torch.Tensor)}
        tensors["word_ids"] = np.array(
            [
                -2 if masked else -1 if word is None else word
                for masked, word in zip(part["p_mask"], part["word_ids"], strict=True)
            ]
        )
        for key, value in tensors.items():
            if key not in got:
                raise CannotSplit(f"the pipeline makes {key} of a page, which only transformers can make")
            if not np.array_equal(value, got[key][number][: len(value)]):
                raise CannotSplit(f"{name} makes other {key} of a page than its tokenizer.json")


def _answered(part: Mapping[str, Any], start: np.ndarray, end: np.ndarray) -> dict[str, Any]:
    """What the pipeline's forward would return of one part."""
    kept = {key: part[key] for key in ("p_mask", "word_ids", "words", MASK)}
    return {**kept, "start_logits": torch.from_numpy(start)[None], "end_logits": torch.from_numpy(end)[None]}


def find_answers(
    said: Sequence[np.ndarray],
    word_ids: np.ndarray,
    words: Sequence[str],
    handle_impossible_answer: bool = False,
    **options: Any,
) -> list[dict[str, Any]]:
    """What `find_answers.py` makes of the scores [2, tokens] of each part."""
    light = light_module("light_answers")
    longest = word_ids.shape[1]
    padded = [np.pad(pair, ((0, 0), (0, longest - pair.shape[1]))) for pair in said]
    parts = [light.Part(*pair, ids) for pair, ids in zip(padded, word_ids, strict=True)]
    found: list[dict[str, Any]] = light.find_answers(parts, words, may_be_none=handle_impossible_answer, **options)
    return found


def _equal(expected: Sequence[Mapping[str, Any]], got: Sequence[Mapping[str, Any]]) -> bool:
    def plain(answers: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        return [(each["answer"], each["start"], each["end"]) for each in answers]

    want, have = ([each["score"] for each in answers] for answers in (expected, got))
    return plain(expected) == plain(got) and np.allclose(want, have, rtol=1e-5, atol=1e-9)
