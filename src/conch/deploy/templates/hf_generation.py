"""Generation for several clients at once: each may leave, and each may ask for numbers of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hf_serving import Settings
from hf_text import length_groups
from transformers import StoppingCriteria, StoppingCriteriaList

#: Seconds between two looks at who is still there: each asks the server.
LOOK_S = 0.2

Cancelled = Callable[[], bool]


class ClientsGone(StoppingCriteria):
    """Ends the sequences of clients that gave their request up; what the others get does not change."""

    def __init__(self, cancelled: Sequence[Cancelled], clock: Callable[[], float] = time.monotonic) -> None:
        self.cancelled = list(cancelled)
        self.gone = [False] * len(self.cancelled)
        self.clock = clock
        self.next_look = clock() + LOOK_S

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        if self.clock() >= self.next_look:
            self.gone = [gone or ask() for gone, ask in zip(self.gone, self.cancelled, strict=True)]
            self.next_look = self.clock() + LOOK_S
        each, rest = divmod(len(input_ids), len(self.gone))  # beams and returned sequences lie side by side
        if rest or not each:  # a model that goes on with some of its sequences alone
            return torch.full((len(input_ids),), all(self.gone), device=input_ids.device)
        return torch.tensor(self.gone, device=input_ids.device).repeat_interleave(each)


def until_gone(cancelled: Sequence[Cancelled]) -> StoppingCriteriaList:
    """The argument `stopping_criteria` of `generate` for a batch of these clients."""
    return StoppingCriteriaList([ClientsGone(cancelled)])


def generation_groups(lengths: list[int], settings: Settings, *, can_pad: bool, seed: int | None) -> list[list[int]]:
    """Which prompts are continued in one batch, those of similar length.

    Padding matters less than in an encoder: it costs in the prompt alone, while every new token gains. A request that
    brings its own seed is alone: what is drawn for it must not depend on others. So is an empty prompt.
    """
    if seed is not None or not can_pad:
        return [[index] for index in range(len(lengths))]
    empty = [[index] for index, length in enumerate(lengths) if not length]
    filled = [index for index, length in enumerate(lengths) if length]
    groups = length_groups([lengths[index] for index in filled], 2 * settings.max_padding)
    return [*empty, *([filled[number] for number in group] for group in groups)]
