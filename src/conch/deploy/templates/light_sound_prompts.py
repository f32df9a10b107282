"""Sounds in prompts: their features, and the tokens that stand for them, as Qwen2-Audio's processor makes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from light_audio import AudioProcessor


class SoundPrompts:
    """What becomes of the sounds of a prompt, and of its text. `token` stands for a sound in the text."""

    def __init__(self, processor: AudioProcessor, token: str) -> None:
        self.processor, self.token = processor, token
        self.window, self.hop = int(processor.settings["samples"]), int(processor.settings["hop"])
        self.shape = (processor.bands.shape[1], self.window // self.hop)

    def features(self, sounds: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """[sounds, bands, frames], and which frames [sounds, frames] hold sound; what is longer is cut."""
        made = np.zeros((len(sounds), *self.shape), np.float32)
        mask = np.zeros((len(sounds), self.shape[1]), np.int32)
        for row, samples in enumerate(sounds):
            made[row] = self.processor(samples)["input_features"]
            mask[row, : -(-len(samples) // self.hop)] = 1
        return made, mask

    def expand(self, text: str, mask: np.ndarray) -> str:
        """The text with as many tokens for each sound as the model hears of it."""
        if not len(mask):
            return text
        first, *others = text.split(self.token)
        if len(others) != len(mask):
            raise ValueError(
                f"the prompt mentions {len(others)} sounds ({self.token}), the input `audio` has {len(mask)}"
            )
        counts = [self.tokens(int(row.sum())) for row in mask]
        return first + "".join(self.token * count + other for count, other in zip(counts, others, strict=True))

    def tokens(self, frames: int) -> int:
        """How many the model hears of so many frames: it halves them twice."""
        return ((frames - 1) // 2 + 1 - 2) // 2 + 1
