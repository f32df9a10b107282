"""`pb_utils.MetricFamily` and its metrics: they live in the server, shared by all who name the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from .calls import server
from .errors import NamedNumber, TritonModelException
from .protocol import METRIC_ADD, METRIC_DECLARE, METRIC_OBSERVE, METRIC_SET, METRIC_VALUE


class MetricKind(NamedNumber):
    """What a metric measures."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


def _number(value: Any) -> float:
    if not hasattr(value, "__float__"):
        raise TypeError(f"a metric takes numbers, got {value!r}")
    return float(value)


class Metric:
    """One metric of a family. Made by `MetricFamily.Metric`."""

    __slots__ = ("_buckets", "_kind", "_labels", "_name")

    def __init__(self, name: str, kind: MetricKind, labels: dict[str, str], buckets: tuple[float, ...]) -> None:
        self._name = name
        self._kind = kind
        self._labels = labels
        self._buckets = buckets
        if kind is MetricKind.HISTOGRAM:  # it shows from now on, at zero
            server().tell(METRIC_OBSERVE, name, labels, (), buckets)
        else:
            server().tell(METRIC_ADD, name, labels, 0.0)

    def increment(self, value: float) -> None:
        """Add to a counter (never a negative value) or a gauge.

        Raises:
            TritonModelException: a counter cannot go down; a histogram cannot be incremented.
        """
        if self._kind is MetricKind.HISTOGRAM:
            raise self._unsupported("increment", "Increment")
        if self._kind is MetricKind.COUNTER and value < 0:
            raise TritonModelException(
                f"Failed to increment metric value of '{self._name}' by {value}: TRITONSERVER_METRIC_KIND_COUNTER can "
                "only be incremented monotonically by non-negative values."
            )
        server().tell(METRIC_ADD, self._name, self._labels, _number(value))

    def set(self, value: float) -> None:
        """Set a gauge. Raises TritonModelException for the other kinds."""
        if self._kind is not MetricKind.GAUGE:
            raise self._unsupported("set", "Set")
        server().tell(METRIC_SET, self._name, self._labels, _number(value))

    def observe(self, value: float) -> None:
        """Record an observation in a histogram. Raises TritonModelException for the other kinds."""
        if self._kind is not MetricKind.HISTOGRAM:
            raise self._unsupported("observe", "Observe")
        server().tell(METRIC_OBSERVE, self._name, self._labels, (_number(value),), self._buckets)

    def value(self) -> float:
        """The current value of a counter or gauge, all models' contributions included (asks the server).

        Raises:
            TritonModelException: it is a histogram.
        """
        if self._kind is MetricKind.HISTOGRAM:
            raise self._unsupported("get", "Value")
        return float(server().ask(METRIC_VALUE, self._name, self._labels))

    def _unsupported(self, verb: str, operation: str) -> TritonModelException:
        return TritonModelException(
            f"Failed to {verb} metric value of '{self._name}': TRITONSERVER_METRIC_KIND_{self._kind.name} does not "
            f"support {operation}"
        )


class MetricFamily:
    """A named group of metrics of one kind; declaring it again with the same kind is fine.

    Raises:
        TritonModelException: the name is invalid or taken by a family of another kind.
    """

    COUNTER: ClassVar = MetricKind.COUNTER
    GAUGE: ClassVar = MetricKind.GAUGE
    HISTOGRAM: ClassVar = MetricKind.HISTOGRAM

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        if not isinstance(name, str) or not isinstance(description, str) or not isinstance(kind, int):
            raise TypeError(
                "MetricFamily: name and description must be str, kind MetricFamily.COUNTER, GAUGE or HISTOGRAM; got "
                f"{name!r}, {description!r}, {kind!r}"
            )
        self._name = str(name)
        self._kind = MetricKind(kind)
        if not (name.isascii() and name.replace(":", "_").isidentifier()):
            raise TritonModelException(f"Error when creating MetricFamily: Invalid metric name, got {name!r}")
        try:
            server().ask(METRIC_DECLARE, self._name, str(description), self._kind.name.lower())
        except TritonModelException as error:
            raise TritonModelException(f"Error when creating MetricFamily: {error}") from None

    def Metric(self, labels: Mapping[str, str] | None = None, buckets: Sequence[float] | None = None) -> Metric:
        """The metric of those labels; a histogram needs its buckets' upper bounds, strictly ascending.

        Raises:
            TritonModelException: labels or buckets are not as the kind needs them.
        """
        labels = {} if labels is None else labels
        if not isinstance(labels, dict):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        for key, value in labels.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TritonModelException(
                    f"Error when creating Metric: labels must be strings, got {key!r}: {value!r}"
                )
            if not (key.isascii() and key.isidentifier()):
                raise TritonModelException(f"Error when creating Metric: Invalid label name, got {key!r}")
        plain = {str(key): str(value) for key, value in labels.items()}
        return Metric(self._name, self._kind, plain, self._checked_buckets(buckets))

    def _checked_buckets(self, buckets: Any) -> tuple[float, ...]:
        if self._kind is not MetricKind.HISTOGRAM:
            if buckets is not None:
                raise TritonModelException("Failed to create metric. Unexpected buckets found.")
            return ()
        if buckets is None:
            raise TritonModelException("Failed to create metric. Missing required buckets.")
        if not isinstance(buckets, (list, tuple)) or not all(hasattr(bound, "__float__") for bound in buckets):
            raise TritonModelException(f"Failed to create metric. Buckets must be a list of numbers, got {buckets!r}.")
        bounds = tuple(float(bound) for bound in buckets)
        if any(bounds[i] >= bounds[i + 1] for i in range(len(bounds) - 1)):
            raise TritonModelException(
                f"Error when creating Metric: Bucket Boundaries must be strictly sorted, got {list(bounds)}"
            )
        return bounds
