"""Normalized texts to words, for the pre-tokenizers whose words can be told without the tokenizers library.

The library counts where each character came from while it splits, which takes most of its time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import tokenizers

SEPARATORS = re.compile("[\x1c-\x1f]")  # white space to Python, none to the library


class Words:
    """The words of ordinary texts, in which there is nothing that the library treats apart."""

    def __init__(self, content: dict[str, Any], tokenizer: tokenizers.Tokenizer) -> None:
        """`content` is what tokenizer.json says, `tokenizer` what the library makes of it."""
        self._normalizer = tokenizer.normalizer
        added = [token["content"] for token in content["added_tokens"]]
        normalized = [self._normal(token["content"]) for token in content["added_tokens"] if token["normalized"]]
        self._added = _any_of(added)
        self._normalized = _any_of(normalized)
        self._split = _splitter(content["pre_tokenizer"]) if all(normalized) else None

    def __call__(self, text: str) -> list[str] | None:
        """The words of a text; None if the library has to tell them."""
        if self._split is None or (self._added and self._added.search(text)):
            return None
        normal = self._normal(text)
        if (self._normalized and self._normalized.search(normal)) or SEPARATORS.search(normal):
            return None
        return self._split(normal)

    def _normal(self, text: str) -> str:
        return text if self._normalizer is None else str(self._normalizer.normalize_str(text))


def _any_of(texts: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, texts))) if texts else None


def _splitter(written: dict[str, Any] | None) -> Callable[[str], list[str]] | None:
    """What splits as a pre-tokenizer of tokenizer.json does; None if it is not one of those known here."""
    steps = [] if written is None else written["pretokenizers"] if written["type"] == "Sequence" else [written]
    if not steps or steps[-1]["type"] != "Metaspace" or not steps[-1]["split"]:
        return None
    mark, scheme = steps[-1]["replacement"], steps[-1]["prepend_scheme"]
    kinds = [step["type"] for step in steps]
    if kinds == ["Metaspace"] and scheme in ("always", "never"):
        return _marked(mark, always=scheme == "always")
    if kinds == ["WhitespaceSplit", "Metaspace"] and scheme == "always":
        return _spaced(mark)
    return None


def _marked(mark: str, *, always: bool) -> Callable[[str], list[str]]:
    """Words begin with the mark, which every space becomes; the text begins with one if it `always` does."""

    def split(text: str) -> list[str]:
        first, *others = text.replace(" ", mark).split(mark)
        words = [mark + word for word in others]
        return [mark + first if always else first, *words] if first else words

    return split


def _spaced(mark: str) -> Callable[[str], list[str]]:
    """Words are what stands between white space, and begin with the mark; within them, it begins a word too."""

    def split(text: str) -> list[str]:
        if mark not in text:
            return [mark + word for word in text.split()]
        joined = "".join(word if word.startswith(mark) else mark + word for word in text.split())
        return [mark + word for word in joined.split(mark)[1:]]

    return split
