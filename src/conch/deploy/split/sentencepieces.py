"""From tokenizers that transformers has in Python around sentencepiece (Marian, M2M100) to `light_sentencepiece.py`,
proved to give the same tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from conch.deploy.split.odd_texts import odd_texts
from conch.deploy.split.parts import CannotSplit
from conch.deploy.split.tokenizer import light_encoder, tokenizer_settings

#: The files beside model.py.
FILES = ("source.spm", "sentencepiece.json")
_CODES = (">>fra<< The wind came in.", ">>fra<<", ">> x << y", ">>nowhere<< a", "a >>fra<< b")


def is_around_sentencepiece(tokenizer: Any) -> bool:
    """Whether it has pieces of sentencepiece and a vocabulary beside them."""
    return _pieces_of(tokenizer) is not None and isinstance(getattr(tokenizer, "encoder", None), Mapping)


def _pieces_of(tokenizer: Any) -> Any:
    return getattr(tokenizer, "spm_source", None) or getattr(tokenizer, "sp_model", None)


def sentencepiece_files(tokenizer: Any, config: Any) -> dict[str, bytes]:
    """The files of `light_sentencepiece.py`, and `tokenizer_settings.json`.

    Args:
        tokenizer: one around sentencepiece.
        config: the model's configuration.

    Raises:
        CannotSplit: it gives other tokens there.
    """
    name = type(tokenizer).__name__
    pieces, vocabulary = _pieces_of(tokenizer), tokenizer.encoder
    if getattr(tokenizer, "sp_model_kwargs", None):
        raise CannotSplit(f"{name} gives sentencepiece settings of its own: {sorted(tokenizer.sp_model_kwargs)}")
    unknown = vocabulary[tokenizer.unk_token]
    known = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
    cut = set(known)
    around = tokenizer.build_inputs_with_special_tokens([-1])
    place = around.index(-1)
    content = {
        "ids": [vocabulary.get(piece, unknown) for piece in known],
        "others": {token: number for token, number in vocabulary.items() if token not in cut},
        "unk_id": unknown,
        "added": {
            token.content: (number, token.lstrip, token.rstrip)
            for number, token in tokenizer.added_tokens_decoder.items()
        },
        "before": around[:place],
        "after": around[place + 1 :],
        "codes": hasattr(tokenizer, "remove_language_code"),
    }
    if alone := [token.content for token in tokenizer.added_tokens_decoder.values() if token.single_word]:
        raise CannotSplit(f"{name} looks for {alone} as words")
    files = {
        "source.spm": pieces.serialized_model_proto(),
        "sentencepiece.json": json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(),
        "tokenizer_settings.json": tokenizer_settings(tokenizer, config),
    }
    _prove(tokenizer, files, known)
    return files


def _prove(tokenizer: Any, files: Mapping[str, bytes], pieces: list[str]) -> None:
    """Raise CannotSplit unless made-up texts get the tokens that transformers gives them."""
    encoder = light_encoder(files)
    texts = [*odd_texts(0, pieces, list(tokenizer.added_tokens_encoder)), *_CODES]
    for cut, some in ((None, texts), ("longest_first", texts[:12])):
        options = {"truncation": cut or False, "max_length": 9} if cut else {}
        for text, encoding in zip(some, encoder.encode(some, cut, 9 if cut else None), strict=True):
            if encoding.ids != tokenizer(text, verbose=False, **options)["input_ids"]:
                raise CannotSplit(f"{type(tokenizer).__name__} gives {text[:30]!r} other tokens than its pieces")
