"""Metrics of the program itself, on the page of every server of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from conch.core.metrics import CustomMetrics
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
    """One metric of a family, told from the others by its labels."""

    def __init__(self, family: MetricFamily, labels: Mapping[str, str] | None = None) -> None:
        self._family = family
        self._labels = dict(labels or {})
        with _LOCK:
            _METRICS.add(family.name, self._labels, 0.0)

    @property
    def kind(self) -> MetricKind:
        """The family's kind."""
        return self._family.kind

    def value(self) -> float:
        """What it is now."""
        with _LOCK:
            return _METRICS.value(self._family.name, self._labels)

    def increment(self, value: float) -> None:
        """Add to it. Raises InvalidArgumentError for less than nothing of a counter."""
        with _LOCK:
            _METRICS.add(self._family.name, self._labels, value)

    def set_value(self, value: float) -> None:
        """Set it. Raises InvalidArgumentError for a counter."""
        with _LOCK:
            _METRICS.set(self._family.name, self._labels, value)
