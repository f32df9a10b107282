"""Texts to tokens with the sentencepiece library alone: what transformers' tokenizers in Python (Marian, M2M100) do.

Beside model.py lie `source.spm`, which cuts texts into pieces, and `sentencepiece.json`:

    ids      the token of each piece, by its number in source.spm
    others   tokens that are no piece there -> their ids
    unk_id   of what is neither
    added    {text: [id, strips left, strips right]}: tokens that are looked for before a text is cut
    before, after   tokens around a text
    codes    true: `>>fra<<` at the start of a text is one token
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


class Encoding:
    """The tokens of one text."""

    overflowing: Sequence[Encoding] = ()

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.attention_mask, self.type_ids = [1] * len(ids), [0] * len(ids)

    def __len__(self) -> int:
        return len(self.ids)


class SentencePieceTokenizer:
    """What `light_text.TextEncoder` asks of a `tokenizers.Tokenizer`; it knows single texts alone."""

    def __init__(self, directory: Path) -> None:
        import sentencepiece  # needed by these tokenizers alone

        content = json.loads(Path(directory, "sentencepiece.json").read_text("utf-8"))
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(Path(directory, "source.spm")))
        self.unknown: int = self.pieces.unk_id()
        self.ids: list[int] = content["ids"]
        self.others: dict[str, int] = content["others"]
        self.unk_id: int = content["unk_id"]
        self.added: dict[str, tuple[int, bool, bool]] = content["added"]
        self.before, self.after = content["before"], content["after"]
        self.codes: bool = content["codes"]
        longest_first = sorted(self.added, key=len, reverse=True)
        self.added_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.truncation: dict[str, Any] | None = None

    def no_padding(self) -> None:
        """It never pads."""

    def no_truncation(self) -> None:
        self.truncation = None

    def enable_truncation(self, **how: Any) -> None:
        self.truncation = how

    def encode_batch_fast(
        self, texts: Sequence[Any], add_special_tokens: bool = True, is_pretokenized: bool = False
    ) -> list[Encoding]:
        if is_pretokenized or not all(isinstance(text, str) for text in texts):
            raise ValueError("expected texts, not pairs of texts or lists of words")
        return [Encoding(self.encode_text(text, add_special_tokens)) for text in texts]

    def encode_text(self, text: str, add_special_tokens: bool) -> list[int]:
        before, after = (self.before, self.after) if add_special_tokens else ([], [])
        ids = [each for part in self.parts(text) for each in part]
        if self.truncation is not None:
            room = max(self.truncation["max_length"] - len(before) - len(after), 0)
            if self.truncation["direction"] == "left":
                ids = ids[max(len(ids) - room, 0) :]
            ids = ids[:room]
        return [*before, *ids, *after]

    def parts(self, text: str) -> Iterator[list[int]]:
        """The tokens of what lies between added tokens, and these."""
        end, strips = 0, False
        for found in self.added_pattern.finditer(text):
            number, left, right = self.added[found[0]]
            between = text[end : found.start()]
            between = between.lstrip() if strips else between
            yield self.cut(between.rstrip() if left else between)
            yield [number]
            end, strips = found.end(), right
        yield self.cut(text[end:].lstrip() if strips else text[end:])

    def cut(self, text: str) -> list[int]:
        """The tokens of a text without added ones."""
        if not text:
            return []
        if self.codes and text.startswith(">>") and "<<" in text:
            code, mark, text = text.partition("<<")
            return [self.number(code + mark), *self.cut_pieces(text)]
        return self.cut_pieces(text)

    def cut_pieces(self, text: str) -> list[int]:
        numbers = self.pieces.encode(text)
        if self.unknown not in numbers:
            return [self.ids[number] for number in numbers]
        return [self.number(piece) for piece in self.pieces.encode(text, out_type=str)]

    def number(self, piece: str) -> int:
        """The token of a piece, which for what source.spm does not know is the text itself."""
        if piece in self.others:
            return self.others[piece]
        number = self.pieces.piece_to_id(piece)
        return self.unk_id if number == self.unknown else self.ids[number]
