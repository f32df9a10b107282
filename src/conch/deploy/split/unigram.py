"""A large Unigram vocabulary (XLM-RoBERTa's, mT5's) as the files of `light_unigram.py`, proved to give the same tokens.

The tokenizers library takes up to 2.4 KB a piece for such a vocabulary, `light_pieces.py` 0.25 KB.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conch.deploy.split.light import light_module
from conch.deploy.split.odd_texts import MARK, odd_texts
from conch.deploy.split.parts import CannotSplit

#: A smaller vocabulary is left to the library: it takes some 50 MB at most.
LARGE = 20_000

#: The files beside tokenizer.json.
VOCABULARY = ("pieces.json", "piece_scores.npy", "piece_wholes.npy")

_KNOWN = {"type", "vocab", "unk_id", "byte_fallback"}
#: A model that knows no piece: each word is one token, whose id is 0.
_NO_PIECES = {"type": "Unigram", "vocab": [["", 0.0]], "unk_id": 0, "byte_fallback": False}
#: How texts are cut while proving: the tokens left of a pair, and the overlap.
_CUTS: tuple[dict[str, Any], ...] = (
    {"max_length": 9, "stride": 0, "strategy": "longest_first", "direction": "right"},
    {"max_length": 12, "stride": 2, "strategy": "longest_first", "direction": "left"},
)
_COMPARED = ("ids", "type_ids", "attention_mask", "special_tokens_mask", "offsets", "word_ids", "sequence_ids")


def is_large(content: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json holds a Unigram vocabulary that is worth another form."""
    model = content["model"]
    return model.get("type") == "Unigram" and len(model["vocab"]) >= LARGE


def unigram_files(backend: Any, content: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of `light_unigram.py`.

    Args:
        backend: the library's tokenizer.
        content: what it says as tokenizer.json, without truncation and padding.

    Raises:
        CannotSplit: something about the tokenizer is not known there, or gives other tokens.
    """
    model = content["model"]
    if unknown := sorted(name for name in model.keys() - _KNOWN if model[name] is not None):
        raise CannotSplit(f"the vocabulary has {' and '.join(unknown)}")
    if model["unk_id"] is None:
        raise CannotSplit("the vocabulary has no piece for what is unknown")
    processor = content["post_processor"]
    if processor is None or processor["type"] != "TemplateProcessing":
        raise CannotSplit(f"its post-processor is {processor and processor['type']}, not TemplateProcessing")
    files = {"tokenizer.json": _json({**content, "model": _NO_PIECES}), **_pieces(backend, model)}
    _prove(backend, content, files)
    return files


def _pieces(backend: Any, model: Mapping[str, Any]) -> dict[str, bytes]:
    texts = [text for text, _ in model["vocab"]]
    places: dict[tuple[int, ...], int] = {}
    starts = {start: places.setdefault(lengths, len(places)) for start, lengths in _lengths(texts).items()}
    written = {
        "pieces": texts,
        "unk_id": model["unk_id"],
        "byte_fallback": bool(model.get("byte_fallback")),
        "lengths": list(places),
        "starts": starts,
    }
    scores = np.array([score for _, score in model["vocab"]], np.float64)
    wholes = np.zeros(len(texts), np.bool_)
    library = backend.model
    for number, text in enumerate(texts):
        tokens = library.tokenize(text) if text.startswith(MARK) else []  # as words do
        wholes[number] = len(tokens) == 1 and tokens[0].id == number
    return {"pieces.json": _json(written), "piece_scores.npy": _npy(scores), "piece_wholes.npy": _npy(wholes)}


def _lengths(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`lengths` by `starts`, as `light_pieces.py` explains them; long starts have the lengths of the short ones too."""
    long = light_module("light_pieces").LONG_START
    found: dict[str, set[int]] = {}
    for text in texts:
        if len(text) > 1:
            short = found.setdefault(text[:2], set())
            (found.setdefault(text[:long], set()) if len(text) >= long else short).add(len(text))
    every = {start: lengths | found[start[:2]] for start, lengths in found.items()}
    return {start: tuple(sorted(lengths)) for start, lengths in every.items()}


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _npy(array: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.save(written, array)
    return written.getvalue()


def _prove(backend: Any, content: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Raise CannotSplit unless made-up texts get the tokens that the library gives them."""
    pieces = [text for text, _ in content["model"]["vocab"]]
    texts = odd_texts(0, pieces, [token["content"] for token in content["added_tokens"]])
    short = [text for text in texts if len(text) <= 200]  # of long ones, too much would overflow
    pairs = list(zip(short[:120], reversed(short[:120]), strict=True))
    added = backend.num_special_tokens_to_add(True)
    cuts = [{**cut, "max_length": cut["max_length"] + added} for cut in _CUTS]
    light = _light(files)
    with _stateless(backend):
        for cut, some in ((None, [*texts, *pairs]), *((cut, [*short, *pairs]) for cut in cuts)):
            for tokenizer in (backend, light):
                tokenizer.no_truncation() if cut is None else tokenizer.enable_truncation(**cut)
            made = (tokenizer.encode_batch(some) for tokenizer in (backend, light))
            for text, expected, got, quick in zip(some, *made, light.encode_batch_fast(some), strict=True):
                if difference := _difference(expected, got, quick) or _decoded(backend, light, expected.ids):
                    raise CannotSplit(f"it gives other {difference} for {str(text)[:30]!r} in another form")


def _light(files: Mapping[str, bytes]) -> Any:
    """`light_unigram.py` with these files."""
    with tempfile.TemporaryDirectory() as directory:
        for name, written in files.items():
            Path(directory, name).write_bytes(written)
        return light_module("light_unigram").UnigramTokenizer(Path(directory))


def _difference(expected: Any, got: Any, quick: Any) -> str:
    """What differs between the library's tokens of a text and others'; "" if nothing does."""
    if (quick.ids, quick.type_ids) != (expected.ids, expected.type_ids):
        return "tokens"
    if len(expected.overflowing) != len(got.overflowing):
        return "parts"
    for one, other in zip((expected, *expected.overflowing), (got, *got.overflowing), strict=True):
        for name in _COMPARED:
            if getattr(one, name) != getattr(other, name):
                return name
    return ""


def _decoded(library: Any, light: Any, ids: list[int]) -> str:
    """What differs between the texts that tokens become; "" if nothing does."""
    same = all(library.decode(ids, skip_special_tokens=skip) == light.decode(ids, skip) for skip in (True, False))
    return "" if same else "decoded text"


@contextlib.contextmanager
def _stateless(backend: Any) -> Iterator[None]:
    """The tokenizer without padding; afterwards with what it was told before."""
    truncation, padding = backend.truncation, backend.padding
    backend.no_padding()
    try:
        yield
    finally:
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)
