"""Quantiles of durations over a sliding window, as a Prometheus client keeps them for a summary."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from itertools import accumulate

#: The window, and its parts: when the oldest part is dropped, the window is that much shorter for a moment.
WINDOW_NS = 60_000_000_000
PARTS = 5

#: Values below are kept as they are; above, those that differ by less than `_FACTOR` share a bin.
_EXACT = 100
_FACTOR = 1.01
_LOG_FACTOR = math.log(_FACTOR)


class SlidingSummary:
    """Observations of whole numbers: their number and sum so far, and quantiles of those in the window.

    The bins of a part are as wide as their values are large, so a quantile is off by half a percent at most, and what a
    part holds does not grow with the number of observations.

    Attributes:
        count: observations so far.
        total: their sum.
    """

    __slots__ = ("_parts", "_until_ns", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self._parts: deque[dict[int, int]] = deque([{}], PARTS)
        self._until_ns = 0

    def observe(self, value: int, now_ns: int) -> None:
        """Take one observation, made at that moment of the monotonic clock."""
        if now_ns >= self._until_ns:
            self._turn(now_ns)
        self.count += 1
        self.total += value
        number = value if value < _EXACT else _EXACT + int(math.log(value / _EXACT) / _LOG_FACTOR)
        bins = self._parts[-1]
        bins[number] = bins.get(number, 0) + 1

    def quantiles(self, wanted: Sequence[float], now_ns: int) -> list[float]:
        """Those quantiles; NaN when the window is empty."""
        if now_ns >= self._until_ns:
            self._turn(now_ns)
        bins: Counter[int] = Counter()
        for part in self._parts:
            bins.update(part)
        ordered = sorted(bins.items())
        size = sum(bins.values())
        return [_at(ordered, max(1, math.ceil(quantile * size))) if size else math.nan for quantile in wanted]

    def _turn(self, now_ns: int) -> None:
        """Begin as many parts as the time has come for; the oldest ones are dropped."""
        length_ns = WINDOW_NS // PARTS
        if not self._until_ns:
            self._until_ns = now_ns + length_ns
            return
        missed = (now_ns - self._until_ns) // length_ns + 1
        self._until_ns += missed * length_ns
        self._parts.extend({} for _ in range(min(missed, PARTS)))


def _at(ordered: Sequence[tuple[int, int]], rank: int) -> float:
    """The value of the observation with that rank, from 1."""
    ranks = accumulate(count for _, count in ordered)
    number = next(number for (number, _), reached in zip(ordered, ranks, strict=True) if reached >= rank)
    if number < _EXACT:
        return float(number)
    return float(round(_EXACT * _FACTOR ** (number - _EXACT) * (1 + _FACTOR) / 2))
