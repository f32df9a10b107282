from __future__ import annotations

import itertools
import statistics
from random import Random

from conch.bench.schedule import poisson_arrivals


def gaps(rate: float, count: int, seed: int = 0) -> list[int]:
    due = list(itertools.islice(poisson_arrivals(rate, 0, Random(seed)), count))
    return [after - before for before, after in itertools.pairwise([0, *due])]


def test_arrivals_come_at_the_rate_with_the_spread_of_a_poisson_process() -> None:
    found = [gap / 1e9 for gap in gaps(200.0, 20_000)]
    assert abs(statistics.mean(found) * 200 - 1) < 0.03
    assert abs(statistics.pstdev(found) * 200 - 1) < 0.03  # exponential: the deviation is the mean


def test_arrivals_never_go_back() -> None:
    assert min(gaps(1e6, 10_000)) >= 0


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert gaps(50, 100, seed=3) == gaps(50, 100, seed=3)
    assert gaps(50, 100, seed=3) != gaps(50, 100, seed=4)


def test_arrivals_start_after_the_given_time() -> None:
    assert next(poisson_arrivals(1.0, 10**12, Random(0))) > 10**12
