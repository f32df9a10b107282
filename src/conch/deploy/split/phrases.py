"""Which words of a text are one phrase (Grounding DINO), in operations that an export can follow.

The library finds the nearest end of a phrase before and behind each word with running maxima, which ONNX does not know.
What stands for it while a network is traced compares all pairs of words, which gives the same numbers.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch

from conch.deploy.split.traced import swapped

_LIBRARY = "transformers.models.grounding_dino.modeling_grounding_dino"
_FUNCTION = "generate_masks_with_special_tokens_and_transfer_map"


@contextlib.contextmanager
def followed_phrases() -> Iterator[None]:
    """The library tells phrases by `phrases`, if it was ever asked for such a network."""
    library = sys.modules.get(_LIBRARY)
    with swapped(library, _FUNCTION, phrases) if library else contextlib.nullcontext():
        yield


def phrases(input_ids: torch.Tensor, special_tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which words of a text see each other, BOOL [batch, words, words], and the place of each in its phrase.

    Args:
        input_ids: INT64 [batch, words].
        special_tokens: INT64 [ends], the words that end a phrase.
    """
    places = torch.ones_like(input_ids).cumsum(dim=1) - 1
    last = places[:, -1:]
    ends = (input_ids[:, :, None] == special_tokens).any(dim=-1)
    mine, others = places[:, :, None], places[:, None, :]
    before = torch.where(ends[:, None, :] & (others < mine), others, -1).amax(dim=-1)
    behind = torch.where(ends[:, None, :] & (others >= mine), others, last[:, :, None] + 1).amin(dim=-1)
    whole = (behind != 0) & (behind < last)
    together = (behind[:, :, None] == behind[:, None, :]) & whole[:, None, :]
    numbers = torch.where(whole, places - before - 1, 0).clamp(min=0)
    return together | (mine == others), numbers
