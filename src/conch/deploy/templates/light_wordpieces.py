"""Texts to word pieces, as transformers' own tokenizers written in Python make them; those of the tokenizers library
differ from them in rare characters.

`settings`: `unknown`, `empty` and `special` tokens; `lower`, `strip_accents`, `split_cjk`, `basic` as the tokenizer
names them (`do_lower_case`, `strip_accents`, `tokenize_chinese_chars`, `do_basic_tokenize`).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST_WORD = 100
_KNOWN_WORDS = 10_000
#: First and last of the blocks of ideographs, each of which is a word.
_IDEOGRAPHS = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip
#: Cells that say nothing.
_NOTHING = ("n/a", "?", "nan")
_LETTER = re.compile(r"[^\W_]")


class _Replaced(dict[int, str]):
    """What characters become, for `str.translate`; found out once for each."""

    def __init__(self, replace: Callable[[str], str]) -> None:
        super().__init__()
        self._replace = replace

    def __missing__(self, code: int) -> str:
        self[code] = self._replace(chr(code))
        return self[code]


def _punctuation_apart(letter: str) -> str:
    """ASCII that is neither letter nor digit counts as punctuation."""
    ascii_mark = letter.isascii() and letter.isprintable() and not letter.isalnum() and letter != " "
    return f" {letter} " if ascii_mark or unicodedata.category(letter)[0] == "P" else letter


class WordPieces:
    """The pieces of texts. `pieces` is the vocabulary: piece -> its number."""

    def __init__(self, pieces: Mapping[str, int], settings: Mapping[str, Any]) -> None:
        self.pieces = pieces
        self.settings = settings
        self.special = frozenset(settings["special"])
        self.unknown_id = pieces[settings["unknown"]]
        self._clean = _Replaced(self._cleaned)
        self._apart = _Replaced(_punctuation_apart)
        self._cut = functools.lru_cache(_KNOWN_WORDS)(self._cut_word)

    def __call__(self, text: str) -> list[str]:
        """The pieces of a text: none of "", one that stands for nothing of what says nothing."""
        if not text:
            return []
        if text in self.special:
            return [text]
        if says_nothing(text):
            return [self.settings["empty"]]
        words = self.words(text) if self.settings["basic"] else text.split()
        return [piece for word in words for piece in self._cut(word)]

    def ids(self, pieces: list[str]) -> list[int]:
        return [self.pieces.get(piece, self.unknown_id) for piece in pieces]

    def words(self, text: str) -> list[str]:
        """Words and marks, without what does not count."""
        found: list[str] = []
        for word in unicodedata.normalize("NFC", text.translate(self._clean)).split():
            normal = word if word in self.special else self._normal(word)
            found += [normal] if normal in self.special else normal.translate(self._apart).split()
        return found

    def _normal(self, word: str) -> str:
        lower, strip = self.settings["lower"], self.settings["strip_accents"]
        word = word.lower() if lower else word
        if strip or (lower and strip is None):
            decomposed = unicodedata.normalize("NFD", word)
            word = "".join(letter for letter in decomposed if unicodedata.category(letter) != "Mn")
        return word

    def _cleaned(self, letter: str) -> str:
        category = unicodedata.category(letter)
        if letter in "\t\n\r" or category == "Zs":
            return " "
        if category[0] == "C" or letter == "\ufffd":
            return ""
        ideograph = any(first <= ord(letter) <= last for first, last in _IDEOGRAPHS)
        return f" {letter} " if ideograph and self.settings["split_cjk"] else letter

    def _cut_word(self, word: str) -> list[str]:
        """The longest pieces from the left; a word that cannot be cut up whole is unknown."""
        found: list[str] = []
        begin = 0
        while begin < len(word) <= _LONGEST_WORD:
            mark = "##" if begin else ""
            ends = range(len(word), begin, -1)
            end = next((end for end in ends if mark + word[begin:end] in self.pieces), None)
            if end is None:
                return [self.settings["unknown"]]
            found.append(mark + word[begin:end])
            begin = end
        return found or [self.settings["unknown"]]


def says_nothing(text: str) -> bool:
    """Whether a text has no letter and no digit, or is one of those words for it."""
    plain = text.lower().strip()
    return plain in _NOTHING or not _LETTER.search(plain)
