"""Metrics of the program itself, on the page of every server of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import pairwise

from conch.core.metrics import CustomMetrics
from conch.errors import InvalidArgumentError
from conch.tritonserver.enums import MetricKind
from conch.wire.prometheus import render_families

_METRICS = CustomMetrics()
_LOCK = threading.Lock()


def render() -> str:
    """The metrics of the program as Prometheus text; "" where there are none."""
    with _LOCK:
        return render_families(_METRICS).decode() if any(True for _ in _METRICS) else ""


class MetricFamily:
    """Metrics of one name.

    Raises:
        InvalidArgumentError: there is one of that name and another kind.
    """

    def __init__(self, kind: MetricKind, name: str, description: str) -> None:
        self.kind = kind
        self.name = name
        with _LOCK:
            _METRICS.declare(name, description, kind.value)


class Metric:
    """One metric of a family, told from the others by its labels.

    Args:
        buckets: of a histogram, which needs them: their upper bounds, ascending.

    Raises:
        InvalidArgumentError: buckets are not as the family's kind needs them.
    """

    def __init__(
        self,
        family: MetricFamily,
        labels: Mapping[str, str] | None = None,
        buckets: Sequence[float] | None = None,
    ) -> None:
        self._family = family
        self._labels = dict(labels or {})
        self._buckets = _checked(family, buckets)
        with _LOCK:
            if family.kind is MetricKind.HISTOGRAM:
                _METRICS.observe(family.name, self._labels, (), self._buckets)
            else:
                _METRICS.add(family.name, self._labels, 0.0)

    @property
    def kind(self) -> MetricKind:
        """The family's kind."""
        return self._family.kind

    def value(self) -> float:
        """What it is now. Raises InvalidArgumentError for a histogram."""
        with _LOCK:
            return _METRICS.value(self._family.name, self._labels)

    def increment(self, value: float) -> None:
        """Add to it. Raises InvalidArgumentError for less than nothing of a counter, and for a histogram."""
        with _LOCK:
            _METRICS.add(self._family.name, self._labels, value)

    def set_value(self, value: float) -> None:
        """Set it. Raises InvalidArgumentError for a counter or a histogram."""
        with _LOCK:
            _METRICS.set(self._family.name, self._labels, value)

    def observe(self, value: float) -> None:
        """Record an observation. Raises InvalidArgumentError for what is no histogram."""
        with _LOCK:
            _METRICS.observe(self._family.name, self._labels, (value,), self._buckets)


def _checked(family: MetricFamily, buckets: Sequence[float] | None) -> tuple[float, ...]:
    if family.kind is not MetricKind.HISTOGRAM:
        if buckets is not None:
            raise InvalidArgumentError(f"metric '{family.name}' is a {family.kind.value}, which has no buckets")
        return ()
    if buckets is None:
        raise InvalidArgumentError(f"metric '{family.name}' is a histogram: give the upper bounds of its buckets")
    bounds = tuple(map(float, buckets))
    if any(first >= second for first, second in pairwise(bounds)):
        raise InvalidArgumentError(f"metric '{family.name}': the bounds of its buckets must ascend, got {list(bounds)}")
    return bounds
