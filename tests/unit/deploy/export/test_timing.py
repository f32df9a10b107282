"""Timing takes turns and counts the best."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from conch.deploy.export.timing import time_runners
from tests.unit.deploy.export.networks import tokens


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Takes:
    """A runner that takes some time; the first run of a turn takes longer."""

    inputs = ("input_ids",)
    device = "cpu"

    def __init__(self, name: str, seconds: float, clock: Clock, order: list[str]) -> None:
        self.name, self.seconds, self.clock, self.order = name, seconds, clock, order

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        woken = bool(self.order) and self.order[-1] == self.name
        self.clock.now += self.seconds * (1 if woken else 10)
        self.order.append(self.name)
        return {}


def test_the_best_run_counts_and_engines_take_turns() -> None:
    clock, order = Clock(), list[str]()
    runners = {name: Takes(name, seconds, clock, order) for name, seconds in (("a", 0.002), ("b", 0.003))}
    times = time_runners(runners, [tokens(2, 6), tokens(1, 4)], clock)
    assert times == pytest.approx({"a": 2.0, "b": 3.0})
    assert sum(first != second for first, second in itertools.pairwise(order)) == 11


def test_a_slow_engine_is_not_asked_again_and_again() -> None:
    clock, order = Clock(), list[str]()
    times = time_runners({"slow": Takes("slow", 2.0, clock, order)}, [tokens(2, 6)], clock)
    assert times == pytest.approx({"slow": 2000.0})
    assert len(order) == 2
