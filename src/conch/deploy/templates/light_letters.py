"""Texts to numbers letter by letter, as transformers' tokenizers of voices do (VITS).

Settings:

    letters    number of each letter
    unknown    the number of other letters
    special    words that are kept as they are written
    normalize  texts are put into small letters, and lose those that have no number
    blank      true: the number 0 stands between letters and around them
    replaced   pairs: what is replaced in a text by what
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Letters:
    """Numbers the letters of texts."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.letters: dict[str, int] = settings["letters"]
        # Of several that fit, the first counts.
        self.known = [word for word in (*self.letters, *settings["special"]) if word]

    def __call__(self, text: str) -> np.ndarray:
        """[numbers]"""
        if self.settings["normalize"]:
            text = self.lowered(text)
        for before, after in self.settings["replaced"]:
            text = text.replace(before, after)
        if self.settings["normalize"]:
            text = "".join(letter for letter in text if letter in self.letters).strip()
        numbers = [self.letters.get(letter, self.settings["unknown"]) for letter in text]
        if not self.settings["blank"] or not numbers:
            return np.array(numbers, np.int64)
        spaced = np.zeros(2 * len(numbers) + 1, np.int64)
        spaced[1::2] = numbers
        return spaced

    def lowered(self, text: str) -> str:
        """In small letters but for what the vocabulary writes otherwise."""
        found, place = [], 0
        while place < len(text):
            word = next((each for each in self.known if text.startswith(each, place)), "")
            found.append(word or text[place].lower())
            place += len(word) or 1
        return "".join(found)
