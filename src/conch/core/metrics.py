"""Custom metrics of models: one registry of families; whoever names the same labels shares a metric."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from conch.errors import InvalidArgumentError, NotFoundError

#: The labels of a metric in a fixed order: what makes it one metric.
LabelSet = tuple[tuple[str, str], ...]


class Histogram(msgspec.Struct):
    """Observations by bucket.

    Attributes:
        bounds: upper bounds, ascending, without +Inf.
        counts: observations per bucket (not cumulative); one more than bounds for those above all.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    def observe(self, value: float) -> None:
        """Record one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Family(msgspec.Struct):
    """A metric family: `kind` is "counter", "gauge" or "histogram"."""

    name: str
    description: str
    kind: str
    values: dict[LabelSet, float] = {}
    histograms: dict[LabelSet, Histogram] = {}


class CustomMetrics:
    """The registry; implements `conch.backend_api.MetricSink`."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def __iter__(self) -> Iterator[Family]:
        return iter(self._families.values())

    def declare(self, name: str, description: str, kind: str) -> None:
        """Register a family; the same name and kind again is fine."""
        if kind not in ("counter", "gauge", "histogram"):
            raise InvalidArgumentError(
                f"metric family '{name}': kind must be counter, gauge or histogram, got '{kind}'"
            )
        known = self._families.get(name)
        if known is None:
            self._families[name] = Family(name, description, kind)
        elif known.kind != kind:
            raise InvalidArgumentError(f"metric family '{name}' exists as {known.kind}, cannot declare it as {kind}")

    def add(self, name: str, labels: Mapping[str, str], delta: float) -> None:
        """Increment a counter or gauge."""
        family = self._family(name, "counter", "gauge")
        if family.kind == "counter" and delta < 0:
            raise InvalidArgumentError(f"counter '{name}' cannot be incremented by the negative value {delta}")
        key = _key(labels)
        family.values[key] = family.values.get(key, 0.0) + delta

    def set(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Set a gauge."""
        self._family(name, "gauge").values[_key(labels)] = value

    def observe(self, name: str, labels: Mapping[str, str], values: Sequence[float], buckets: Sequence[float]) -> None:
        """Record observations, or none; the first call for a label set makes the metric and fixes its buckets."""
        family = self._family(name, "histogram")
        key = _key(labels)
        histogram = family.histograms.get(key)
        if histogram is None:
            bounds = tuple(buckets)
            histogram = family.histograms[key] = Histogram(bounds, [0] * (len(bounds) + 1))
        for value in values:
            histogram.observe(value)

    def value(self, name: str, labels: Mapping[str, str]) -> float:
        """The current value of a counter or gauge; 0 before the first change."""
        return self._family(name, "counter", "gauge").values.get(_key(labels), 0.0)

    def _family(self, name: str, *kinds: str) -> Family:
        family = self._families.get(name)
        if family is None:
            raise NotFoundError(f"metric family '{name}' was not declared")
        if family.kind not in kinds:
            raise InvalidArgumentError(f"metric family '{name}' is a {family.kind}, this needs a {' or '.join(kinds)}")
        return family


def _key(labels: Mapping[str, str]) -> LabelSet:
    return tuple(sorted(labels.items()))
