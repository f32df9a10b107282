"""What a network heard frame by frame as text (CTC), with numpy alone: what transformers' pipelines and tokenizers do.

`spelling.json` beside model.py says what the numbers mean:

    tokens         the token of each number
    blank          the token that means nothing
    delimiter      the token between words (null: none), and `space`, what stands for it in a text
    lower          texts are put into small letters
    replaced       pairs: what is replaced in a text, in this order, by what
    frame          samples that one frame of the network's answer stands for
    sampling_rate  samples a second
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

GRAINS = ("char", "word")


class Spelled(NamedTuple):
    """A token that was heard, from one frame to another."""

    token: str
    start: int
    end: int


class Speller:
    """Makes texts of the numbers that frames were heard as."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.tokens: list[str] = settings["tokens"]

    def __call__(self, heard: np.ndarray, grain: str | None = None) -> dict[str, Any]:
        """`text`, and with a grain `chunks`: the tokens or words with the seconds they were heard at.

        Args:
            heard: the number of each frame, [frames].
            grain: "char" or "word".

        Raises:
            ValueError: there is no such grain.
        """
        if grain is not None and grain not in GRAINS:
            raise ValueError(f"return_timestamps should be char or word for this model, got {grain!r}")
        spelled = self.spell(heard)
        result: dict[str, Any] = {"text": self.text(spelled)}
        if grain is not None:
            parts = spelled if grain == "char" else self.words(spelled)
            result["chunks"] = [
                {"text": part.token, "timestamp": (self.seconds(part.start), self.seconds(part.end))} for part in parts
            ]
        return result

    def spell(self, heard: np.ndarray) -> list[Spelled]:
        """What is left of the frames: equal neighbours are one, blanks are none."""
        found, start = [], 0
        for token, frames in groupby(self.tokens[number] for number in heard.tolist()):
            end = start + sum(1 for _ in frames)
            if token != self.settings["blank"]:
                between = token == self.settings["delimiter"]
                found.append(Spelled(self.settings["space"] if between else token, start, end))
            start = end
        return found

    def text(self, spelled: list[Spelled]) -> str:
        text = "".join(part.token for part in spelled).strip()
        text = text.lower() if self.settings["lower"] else text
        for before, after in self.settings["replaced"]:
            text = text.replace(before, after)
        return text

    def words(self, spelled: list[Spelled]) -> list[Spelled]:
        """Tokens with no space between them as one."""
        words = []
        for is_space, group in groupby(spelled, lambda part: part.token == self.settings["space"]):
            if not is_space:
                parts = list(group)
                words.append(Spelled("".join(part.token for part in parts), parts[0].start, parts[-1].end))
        return words

    def seconds(self, frame: int) -> float:
        return frame * self.settings["frame"] / self.settings["sampling_rate"]


def without_overlap(heard: np.ndarray, stride: np.ndarray, frame: int) -> np.ndarray:
    """The frames of one part of a sound that no other part answers for.

    Args:
        heard: one value a frame.
        stride: samples of the part, and its overlap on both sides; all 0 for a whole sound.
        frame: samples that a frame stands for.
    """
    samples, left, right = stride.tolist()
    if not samples:
        return heard
    frames = round(samples * (1 / frame))
    return heard[round(left / samples * frames) : frames - round(right / samples * frames)]
