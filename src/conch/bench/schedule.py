"""When requests of an open loop are due."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random


def poisson_arrivals(rate: float, start_ns: int, random: Random) -> Iterator[int]:
    """Times of a Poisson process of `rate` arrivals a second, without end, as whole nanoseconds after `start_ns`."""
    exact = float(start_ns)
    while True:
        exact += random.expovariate(rate) * 1e9
        yield int(exact)
