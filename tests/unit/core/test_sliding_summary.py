"""Quantiles over a sliding window."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from conch.core.sliding_summary import PARTS, WINDOW_NS, SlidingSummary

PART_NS = WINDOW_NS // PARTS


def test_small_values_are_exact() -> None:
    summary = SlidingSummary()
    for value in range(1, 11):
        summary.observe(value, 0)
    assert summary.quantiles((0, 0.5, 0.9, 1), 0) == [1, 5, 9, 10]
    assert (summary.count, summary.total) == (10, 55)


@given(st.lists(st.integers(0, 10**10), min_size=1), st.floats(0, 1))
def test_a_quantile_is_off_by_less_than_one_percent_of_an_observation(values: list[int], quantile: float) -> None:
    summary = SlidingSummary()
    for value in values:
        summary.observe(value, 0)
    exact = sorted(values)[max(1, math.ceil(quantile * len(values))) - 1]
    (found,) = summary.quantiles((quantile,), 0)
    assert abs(found - exact) <= exact * 0.0051 + 0.5


def test_observations_leave_the_window_and_stay_in_the_sum() -> None:
    summary = SlidingSummary()
    summary.observe(1, 0)
    summary.observe(9, 2 * PART_NS)
    assert summary.quantiles((0.5, 1), 4 * PART_NS) == [1, 9]
    assert summary.quantiles((0.5,), 5 * PART_NS) == [9]
    assert math.isnan(summary.quantiles((0.5,), 7 * PART_NS)[0])
    assert (summary.count, summary.total) == (2, 10)


def test_a_long_pause_empties_the_window_at_once() -> None:
    summary = SlidingSummary()
    summary.observe(1, 0)
    summary.observe(5, 1000 * WINDOW_NS)
    assert summary.quantiles((0, 1), 1000 * WINDOW_NS) == [5, 5]
    assert summary.quantiles((0,), 1000 * WINDOW_NS + 4 * PART_NS) == [5]


def test_nothing_was_observed() -> None:
    assert math.isnan(SlidingSummary().quantiles((0.5,), 0)[0])
