"""Tokenizers of sentencepiece that number texts character by character (SpeechT5's), in the tokenizers library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conch.deploy.extras import require
from conch.deploy.split.parts import CannotSplit

#: Fields of sentencepiece's model file, whose classes come for one version of protobuf alone.
_TRAINER, _NORMALIZER = 2, 3
_MODEL_TYPE, _CHARACTERS = 3, 4
_CHARACTER_MAP, _SPACE_BEFORE, _FEWER_SPACES, _SPACES_SHOWN = 2, 3, 4, 5
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def character_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer of the tokenizers library that makes the tokens which a tokenizer of sentencepiece makes.

    Whoever takes it compares their tokens.

    Raises:
        CannotSplit: it does not number characters, or changes texts beforehand.
    """
    name = type(tokenizer).__name__
    written = f"{name} is written in Python: it has no tokenizer.json"
    if getattr(tokenizer, "sp_model", None) is None:
        raise CannotSplit(written)
    pieces = tokenizer.sp_model
    model = _fields(pieces.serialized_model_proto())
    if _fields(model[_TRAINER]).get(_MODEL_TYPE) != _CHARACTERS:
        raise CannotSplit(written)
    if getattr(tokenizer, "normalize", False):
        raise CannotSplit(f"{name} writes numbers as words, which only transformers can do")
    library = require("tokenizers")
    vocabulary = {pieces.id_to_piece(number): number for number in range(pieces.get_piece_size())}
    # Pairs of bytes without a pair are characters; neighbours that it does not know are one, as in sentencepiece.
    unknown = pieces.id_to_piece(pieces.unk_id())
    made = library.Tokenizer(library.models.BPE(vocabulary, [], unk_token=unknown, fuse_unk=True))
    made.normalizer = _normalizer(library.normalizers, _fields(model.get(_NORMALIZER, b"")))
    end = tokenizer.eos_token
    made.post_processor = library.processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    for number, token in sorted(tokenizer.added_tokens_decoder.items()):
        kept = library.AddedToken(token.content, lstrip=token.lstrip, rstrip=token.rstrip, normalized=False)
        made.add_special_tokens([kept]) if token.special else made.add_tokens([kept])
        if made.token_to_id(token.content) != number:
            raise CannotSplit(f"{name} calls {token.content} {number}, which is not its place in the vocabulary")
    return made


def _normalizer(normalizers: Any, spec: Mapping[int, Any]) -> Any:
    """What sentencepiece does with a text before it looks at its characters."""
    regex = require("tokenizers").Regex
    steps = [normalizers.Precompiled(spec[_CHARACTER_MAP])] if spec.get(_CHARACTER_MAP) else []
    if spec.get(_FEWER_SPACES, True):
        steps += [normalizers.Replace(regex(pattern), new) for pattern, new in ((" {2,}", " "), ("^ | $", ""))]
    if spec.get(_SPACE_BEFORE, True):
        steps.append(normalizers.Prepend(" "))
    if spec.get(_SPACES_SHOWN, True):
        steps.append(normalizers.Replace(" ", _SPACE))
    return normalizers.Sequence(steps)


def _fields(message: bytes) -> dict[int, Any]:
    """Number of a field -> its last value (a number or bytes), of a message in protobuf's format."""
    found: dict[int, Any] = {}
    place = 0

    def number() -> int:
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        field, kind = divmod(number(), 8)
        if kind == 0:
            found[field] = number()
            continue
        size = {1: 8, 5: 4}.get(kind) or number()
        found[field] = message[place : place + size]
        place += size
    return found
