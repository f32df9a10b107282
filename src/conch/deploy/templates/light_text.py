"""Texts to tokens with the Rust tokenizers library alone: what transformers' fast tokenizers do, without transformers.

`tokenizer.json` beside model.py is the tokenizer; `tokenizer_settings.json` says what transformers keeps elsewhere:

    max_length        where truncation cuts unless told otherwise (null: nowhere)
    limit             tokens the model can take (null: any number)
    truncation_side, padding_side, pad_id, pad_type_id
    mask_id, mask_token, unk_id
    clean_up          true: decoded texts lose the spaces that word pieces put before punctuation
    kept_vocabulary   why a large vocabulary is in tokenizer.json rather than in the files of `light_pieces`

An encoding is a `tokenizers.Encoding` or `light_unigram.Encoding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from light_unigram import UnigramTokenizer

Text = str | tuple[str, str] | tuple[list[str], list[str]]


# What cleaning up a decoded text replaces, in this order.
SPACES = [(f" {mark}", mark) for mark in ".?!,"] + [(" ' ", "'")]
SPACES += [(f" {ending}", ending) for ending in ("n't", "'m", "'s", "'ve", "'re")]


def read_tokenizer(directory: Path) -> Any:
    """The library's tokenizer, or what does the same in less memory where the vocabulary has files of its own."""
    if Path(directory, "pieces.json").is_file():
        return UnigramTokenizer(directory)
    return tokenizers.Tokenizer.from_file(str(Path(directory, "tokenizer.json")))


class TextEncoder:
    """Encodes texts and pairs of texts. Not thread-safe: truncation is a state of the library's tokenizer."""

    def __init__(self, directory: Path, settings: dict[str, Any], tokenizer: Any = None) -> None:
        self.tokenizer = read_tokenizer(directory) if tokenizer is None else tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.max_length: int | None = settings["max_length"]
        self.limit: int | None = settings["limit"]
        self.truncation_side: str = settings["truncation_side"]
        self.left: bool = settings["padding_side"] == "left"
        self.fill = {"input_ids": settings["pad_id"], "token_type_ids": settings["pad_type_id"], "attention_mask": 0}
        self.fill |= {"starts": 0, "ends": 0, "special_tokens_mask": 1}
        self.clean_up: bool = settings["clean_up"]
        self.unk_id: int | None = settings.get("unk_id")
        self.mask_id: int | None = settings.get("mask_id")
        self.mask_token: str = settings.get("mask_token", "")
        self.may_be_cut = True  # whether a request may say so

    def encode(
        self,
        texts: Sequence[Text],
        truncation: str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        offsets: bool = False,
        special: bool = True,
        split: bool = False,
    ) -> list[Any]:
        """One encoding a text, unpadded.

        `truncation` is "longest_first", "only_first", "only_second" or None; it cuts at `max_length` or the tokenizer's
        own. What was cut off is in `overflowing` of an encoding, with `stride` tokens of overlap. `special` adds the
        tokenizer's special tokens. `split`: texts come as lists of words.

        Raises:
            ValueError: the texts cannot be cut as wanted.
        """
        length = max_length or self.max_length
        if truncation and length:
            wanted = {"max_length": length, "stride": stride, "strategy": truncation, "direction": self.truncation_side}
            if self.tokenizer.truncation != wanted:
                try:
                    self.tokenizer.enable_truncation(**wanted)
                except (ValueError, OverflowError) as error:
                    raise ValueError(f"cannot cut texts at {length} tokens: {error}") from error
        elif self.tokenizer.truncation is not None:
            self.tokenizer.no_truncation()
        encode_batch = self.tokenizer.encode_batch if offsets else self.tokenizer.encode_batch_fast
        # An empty second text is none, as in transformers.
        plain = [text[0] if isinstance(text, tuple) and not text[1] else text for text in texts]
        try:
            return encode_batch(plain, add_special_tokens=special, is_pretokenized=split)
        except Exception as error:
            if "too short" not in str(error):
                raise ValueError(f"cannot tokenize the text: {error}") from error
        return [self._encode_uncut(text, special, split) for text in plain]

    def encode_each(self, texts: Sequence[Text], special: Sequence[bool], truncation: str | None = None) -> list[Any]:
        """The same, told of each text whether the tokenizer adds its special tokens."""
        encodings: list[Any] = [None] * len(texts)
        for added in (True, False):
            own = [index for index, wanted in enumerate(special) if wanted is added]
            for index, encoding in zip(
                own, self.encode([texts[each] for each in own], truncation, special=added), strict=True
            ):
                encodings[index] = encoding
        return encodings

    def _encode_uncut(self, text: Text, special: bool, split: bool) -> Any:
        """Cut as told, or whole where cutting the first text alone cannot make the pair short enough."""
        pair = text if isinstance(text, tuple) else (text,)
        try:
            return self.tokenizer.encode(*pair, add_special_tokens=special, is_pretokenized=split)
        except Exception as error:
            truncation = self.tokenizer.truncation
            if "too short" not in str(error) or truncation is None or truncation["strategy"] != "only_first":
                raise ValueError(f"cannot tokenize the text: {error}") from error
            self.tokenizer.no_truncation()
            try:
                return self.tokenizer.encode(*pair, add_special_tokens=special, is_pretokenized=split)
            finally:
                self.tokenizer.enable_truncation(**truncation)

    def check_length(self, encodings: Sequence[Any]) -> None:
        """Raise ValueError for an encoding longer than the model can take, in words that a client understands."""
        longest = max(map(len, encodings), default=0)
        if self.limit and longest > self.limit:
            raise ValueError(self.too_long(longest))

    def too_long(self, length: int) -> str:
        """What is wrong with a text of so many tokens."""
        text = f"the text has {length} tokens, the model takes at most {self.limit}: send a shorter text"
        return f"{text} or the request parameter truncation=true" if self.may_be_cut else text

    def tensors(self, encodings: Sequence[Any], length: int = 0) -> dict[str, np.ndarray]:
        """`input_ids`, `attention_mask`, `token_type_ids` [texts, tokens], padded to the longest or to `length`."""
        values = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        return {name: self.pad(name, rows, length) for name, rows in values.items()}

    def positions(self, encodings: Sequence[Any]) -> dict[str, np.ndarray]:
        """Where tokens stood in the text: `starts`, `ends` in characters, and `special_tokens_mask`."""
        values = {
            "starts": [[start for start, _ in encoding.offsets] for encoding in encodings],
            "ends": [[end for _, end in encoding.offsets] for encoding in encodings],
            "special_tokens_mask": [encoding.special_tokens_mask for encoding in encodings],
        }
        return {name: self.pad(name, rows) for name, rows in values.items()}

    def pad(self, name: str, rows: Sequence[Sequence[int]], length: int = 0) -> np.ndarray:
        """Lists of numbers as one array [rows, the longest or `length`], filled on the tokenizer's side."""
        longest = max(length, *map(len, rows))
        padded = np.full((len(rows), longest), self.fill[name], np.int64)
        for row, numbers in zip(padded, rows, strict=True):
            row[longest - len(numbers) if self.left else 0 :][: len(numbers)] = numbers
        return padded

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Tokens as text."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        for before, after in SPACES if self.clean_up else ():
            text = text.replace(before, after)
        return text

    def join(self, tokens: Sequence[str]) -> str:
        """Token strings as text."""
        decoder = self.tokenizer.decoder
        return " ".join(tokens) if decoder is None else decoder.decode(list(tokens))
