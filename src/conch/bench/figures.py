"""What was measured, and the arithmetic that makes it out of times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from conch.bench.statistics import ModelDelta


class Setting(msgspec.Struct, frozen=True):
    """One point of a sweep.

    Attributes:
        concurrency: closed loop: requests in flight at all times; 0 for an open loop.
        rate: open loop: requests a second, Poisson; 0 for a closed loop.
    """

    concurrency: int = 0
    rate: float = 0.0

    @property
    def label(self) -> str:
        return str(self.concurrency) if self.concurrency else f"{self.rate:g}/s"


class Latency(msgspec.Struct, frozen=True):
    """Latencies in milliseconds."""

    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class Measurement(msgspec.Struct, frozen=True):
    """One setting's figures.

    Attributes:
        seconds: length of the window.
        requests: answered without error in the window.
        throughput: inferences a second (requests x batch).
        latency: of the requests without error, None where there were none. Closed loop: from sending to the answer, of
            the requests answered in the window. Open loop: from the moment the schedule wanted them sent, of the
            requests due in the window, however late they were answered.
        due: open loop: requests that the schedule put into the window, answered or not; 0 for a closed loop.
        errors: requests of the window that failed.
        first_error: the first one's text.
        client_cpu: cores that the load generator itself used.
        statistics: the server's own figures for the window, the model first and then its steps; empty where it has
            none.
    """

    setting: Setting
    seconds: float
    requests: int
    throughput: float
    latency: Latency | None
    due: int = 0
    errors: int = 0
    first_error: str = ""
    client_cpu: float = 0.0
    statistics: tuple[ModelDelta, ...] = ()


class Records:
    """Times of requests as they end: (intended or sent, answered) in nanoseconds."""

    def __init__(self) -> None:
        self.started_ns: list[int] = []
        self.ended_ns: list[int] = []
        self.failed: list[tuple[int, int, str]] = []

    def add(self, started_ns: int, ended_ns: int, error: str) -> None:
        """A request has ended."""
        if error:
            self.failed.append((started_ns, ended_ns, error))
        else:
            self.started_ns.append(started_ns)
            self.ended_ns.append(ended_ns)


class Window(msgspec.Struct, frozen=True):
    """The measured stretch of time."""

    start_ns: int
    end_ns: int

    def holds(self, when_ns: int) -> bool:
        return self.start_ns <= when_ns < self.end_ns

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


def summarize(
    setting: Setting,
    window: Window,
    records: Records,
    batch: int,
    client_cpu: float = 0.0,
    statistics: tuple[ModelDelta, ...] = (),
) -> Measurement:
    """The figures of a window."""
    pairs = list(zip(records.started_ns, records.ended_ns, strict=True))
    answered = sum(1 for _, ended in pairs if window.holds(ended))
    due = setting.rate > 0  # an open loop's requests belong where they were due
    latencies = sorted(ended - started for started, ended in pairs if window.holds(started if due else ended))
    failed = [error for started, ended, error in records.failed if window.holds(started if due else ended)]
    return Measurement(
        setting,
        window.seconds,
        answered,
        answered * batch / window.seconds,
        summarize_latencies(latencies),
        len(latencies) + len(failed) if due else 0,
        len(failed),
        failed[0] if failed else "",
        client_cpu,
        statistics,
    )


def summarize_latencies(sorted_ns: Sequence[int]) -> Latency | None:
    """Percentiles of latencies in ascending order; None where there are none."""
    if not sorted_ns:
        return None
    points = (percentile(sorted_ns, share) / 1e6 for share in (0.5, 0.9, 0.99, 1.0))
    return Latency(sum(sorted_ns) / len(sorted_ns) / 1e6, *points)


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def as_json(measurement: Measurement) -> Mapping[str, object]:
    """For `--json`."""
    document: dict[str, object] = msgspec.to_builtins(measurement)
    return document
