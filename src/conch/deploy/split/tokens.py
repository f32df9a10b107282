"""Texts as the tokens a network takes: tensors, axes, padding, and samples to export and prove it with.

A network takes one text a sample, [batch, sequence], or several, [batch, texts, sequence]. Rows are padded at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conch.deploy.samples import SENTENCES
from conch.deploy.split.parts import PaddedAxis
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

MASK = "attention_mask"
_DOCS = {
    "input_ids": "token ids",
    MASK: "1 for a token, 0 for padding",
    "token_type_ids": "which text of a pair a token belongs to",
}

Rows = Mapping[str, np.ndarray]

#: Texts of each batch. The first is exported with; the others prove the export at other sizes.
BATCHES: tuple[tuple[str, ...], ...] = (
    (SENTENCES[0], SENTENCES[1]),
    (SENTENCES[2], SENTENCES[1], "Yes."),
    ("The sea.",),
    (" ".join(SENTENCES),),
)
#: Texts of each sample of each batch, where one sample brings several; an empty text is padding.
LABEL_BATCHES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("a boat", "a photo of a large green circle", "the sea"), ("red", "a blue kite", "")),
    (("the wind",),),
    (("a", "cat"), ("dog", "a small dog in the harbour of Lisbon"), ("kite", "")),
)


def token_specs(names: Sequence[str], *, many: bool = False) -> tuple[TensorSpec, ...]:
    """The tensors of token inputs, without the batch dimension."""
    dims = (-1, -1) if many else (-1,)
    return tuple(TensorSpec(name, DataType.INT64, dims, _DOCS.get(name, "one number a token")) for name in names)


def token_axes(names: Sequence[str], *, many: bool = False) -> dict[str, dict[int, str]]:
    """Their axes, the batch dimension counted."""
    symbols = ("batch", "texts", "sequence") if many else ("batch", "sequence")
    return {name: dict(enumerate(symbols)) for name in names}


def token_padding(
    names: Sequence[str],
    tokenizer: Any,
    *,
    many: bool = False,
    cut: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[PaddedAxis, ...]:
    """Which axes may be padded; `cut` says by symbol which outputs have the axis, and where."""
    fill = fill_values(tokenizer)
    cut = cut or {}
    symbols = {"sequence": 1 if many else 0} | ({"texts": 0} if many else {})
    return tuple(
        PaddedAxis(symbol, {name: (axis, fill.get(name, 0)) for name in names}, cut.get(symbol, {}))
        for symbol, axis in symbols.items()
    )


def fill_values(tokenizer: Any) -> dict[str, int]:
    """What a tokenizer pads with, by tensor; 0 elsewhere."""
    return {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0)}


def token_rows(tokenizer: Any, texts: Sequence[Any], names: Sequence[str], pad_to: int = 0) -> Rows:
    """Tensors [rows, sequence] of texts (or pairs of texts) by input name; an empty text gives a row of 0."""
    encoded = [_encode(tokenizer, text) if text else {} for text in texts]
    longest = max(pad_to, *(len(each.get("input_ids", ())) for each in encoded))
    fill = fill_values(tokenizer)
    rows = {name: np.zeros((len(texts), longest), np.int64) for name in names}
    for name, array in rows.items():
        for row, each in zip(array, encoded, strict=True):
            if each:
                row[:] = fill.get(name, 0)
                row[: len(each[name])] = each[name]
    return rows


def token_samples(tokenizer: Any, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """Inputs [batch, sequence] of a network that takes one text a sample."""
    return [dict(token_rows(tokenizer, texts, names)) for texts in BATCHES]


def labelled_token_samples(
    tokenizer: Any, names: Sequence[str], first: str = "", pad_to: int = 0
) -> list[dict[str, np.ndarray]]:
    """Inputs [batch, texts, sequence] of a network that takes several texts a sample, each paired with `first`."""
    samples = []
    for batch in LABEL_BATCHES:
        flat = [(first, text) if first and text else text for texts in batch for text in texts]
        rows = token_rows(tokenizer, flat, names, pad_to)
        samples.append({name: array.reshape(len(batch), len(batch[0]), -1) for name, array in rows.items()})
    return samples


def long_token_sample(tokenizer: Any, names: Sequence[str], length: int, *, many: bool = False) -> Rows:
    """One text of that many tokens, as far as the tokenizer lets it grow."""
    text = " ".join(SENTENCES * (1 + length // 32))
    rows = {name: array[:, :length] for name, array in token_rows(tokenizer, [text], names).items()}
    return {name: array[:, None] for name, array in rows.items()} if many else rows


def _encode(tokenizer: Any, text: Any) -> Mapping[str, list[int]]:
    arguments = text if isinstance(text, tuple) else (text,)
    encoded: Mapping[str, list[int]] = tokenizer(*arguments, truncation=True, return_attention_mask=True)
    return encoded
