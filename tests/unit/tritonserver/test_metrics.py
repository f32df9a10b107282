"""Metrics of the program."""

from __future__ import annotations

import pytest

from conch.errors import InvalidArgumentError
from conch.tritonserver import Metric, MetricFamily, MetricKind
from conch.tritonserver.metrics import render


def test_a_histogram_shows_from_the_start_and_counts_by_bucket() -> None:
    metric = Metric(MetricFamily(MetricKind.HISTOGRAM, "unit_sizes", "sizes"), {"a": "b"}, [1, 2.5])
    assert 'unit_sizes_bucket{a="b",le="+Inf"} 0' in render()
    for value in (0.5, 2, 9):
        metric.observe(value)
    shown = [line for line in render().splitlines() if line.startswith("unit_sizes")]
    assert shown == [
        'unit_sizes_bucket{a="b",le="1"} 1',
        'unit_sizes_bucket{a="b",le="2.5"} 2',
        'unit_sizes_bucket{a="b",le="+Inf"} 3',
        'unit_sizes_sum{a="b"} 11.5',
        'unit_sizes_count{a="b"} 3',
    ]


def test_what_a_kind_does_not_offer_is_refused() -> None:
    histogram = MetricFamily(MetricKind.HISTOGRAM, "unit_spread", "")
    counter = MetricFamily(MetricKind.COUNTER, "unit_calls", "")
    with pytest.raises(InvalidArgumentError, match="'unit_spread' is a histogram: give the upper bounds"):
        Metric(histogram)
    with pytest.raises(InvalidArgumentError, match=r"must ascend, got \[2.0, 1.0\]"):
        Metric(histogram, buckets=[2, 1])
    with pytest.raises(InvalidArgumentError, match="'unit_calls' is a counter, which has no buckets"):
        Metric(counter, buckets=[1])
    spread, calls = Metric(histogram, buckets=[1]), Metric(counter)
    for refused in (
        spread.value,
        lambda: spread.increment(1),
        lambda: spread.set_value(1),
        lambda: calls.observe(1),
    ):
        with pytest.raises(InvalidArgumentError, match="this needs a"):
            refused()
