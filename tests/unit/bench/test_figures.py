from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conch.bench.figures import Records, Setting, Window, percentile, summarize, summarize_latencies

MS = 1_000_000


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(list(range(1, 101)), share) == expected


@given(st.lists(st.integers(0, 10**12), min_size=1), st.floats(0.01, 1.0))
def test_percentile_is_a_value_that_enough_values_do_not_exceed(values: list[int], share: float) -> None:
    ascending = sorted(values)
    found = percentile(ascending, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) * (1 - 1e-9)


def test_latencies_are_milliseconds() -> None:
    latency = summarize_latencies([1 * MS, 2 * MS, 6 * MS])
    assert latency is not None
    assert (latency.mean_ms, latency.p50_ms, latency.p99_ms, latency.max_ms) == (3.0, 2.0, 6.0, 6.0)


def test_closed_loop_counts_what_was_answered_in_the_window() -> None:
    records = Records()
    records.add(0, 90 * MS, "")  # answered before
    records.add(90 * MS, 110 * MS, "")
    records.add(190 * MS, 199 * MS, "")
    records.add(195 * MS, 210 * MS, "")  # answered after
    records.add(120 * MS, 130 * MS, "out of order")
    measurement = summarize(Setting(concurrency=2), Window(100 * MS, 200 * MS), records, batch=4)
    assert (measurement.requests, measurement.throughput) == (2, 80.0)
    assert measurement.latency is not None
    assert measurement.latency.max_ms == 20.0
    assert (measurement.errors, measurement.first_error) == (1, "out of order")


def test_open_loop_keeps_the_latency_of_requests_answered_after_the_window() -> None:
    records = Records()
    records.add(150 * MS, 950 * MS, "")  # due in the window, answered long after it
    records.add(20 * MS, 120 * MS, "")  # due before
    measurement = summarize(Setting(rate=10), Window(100 * MS, 200 * MS), records, batch=1)
    assert measurement.latency is not None
    assert measurement.latency.p50_ms == 800.0
    assert (measurement.requests, measurement.due) == (1, 1)  # answered in the window, due in the window


def test_nothing_answered_has_no_latency() -> None:
    measurement = summarize(Setting(concurrency=1), Window(0, 100 * MS), Records(), batch=1)
    assert measurement.latency is None
    assert measurement.throughput == 0.0
