"""What a model version has done so far: plain counters, updated on the event loop, read by statistics and metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Literal

from conch.core.api import BatchStat, DurationStat, ModelStatistics, ResponseStat
from conch.core.metrics import Histogram
from conch.errors import FailureReason

#: Upper bounds in seconds of the request-duration histogram.
DURATION_BUCKETS_S: tuple[float, ...] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


#: What became of a response of a decoupled model: see `conch.core.api.ResponseStat`.
ResponseKind = Literal["success", "fail", "empty_response", "cancel"]


class _Duration:
    """A count and a sum of nanoseconds."""

    __slots__ = ("count", "ns")

    def __init__(self) -> None:
        self.count = 0
        self.ns = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def snapshot(self) -> DurationStat:
        return DurationStat(self.count, self.ns)


class _BatchCounters:
    """Executions at one batch size."""

    __slots__ = ("count", "infer_ns", "input_ns", "output_ns")

    def __init__(self) -> None:
        self.count = 0
        self.input_ns = 0
        self.infer_ns = 0
        self.output_ns = 0


#: Further responses of a request are not counted one by one: a stream without an end would fill the memory.
MAX_COUNTED_RESPONSES = 10_000


class _ResponseCounters:
    """Responses of one number."""

    __slots__ = ("cancel", "compute_infer", "compute_output", "empty_response", "fail", "success")

    def __init__(self) -> None:
        self.compute_infer = _Duration()
        self.compute_output = _Duration()
        self.success = _Duration()
        self.fail = _Duration()
        self.empty_response = _Duration()
        self.cancel = _Duration()

    def snapshot(self) -> ResponseStat:
        return ResponseStat(**{name: getattr(self, name).snapshot() for name in self.__slots__})


class PaddingStat:
    """What padding made of the tokens of a model's batches (`Padding.tokens` a row, times rows)."""

    __slots__ = ("padding_tokens", "real_tokens")

    def __init__(self) -> None:
        self.real_tokens = 0
        self.padding_tokens = 0


class ModelStats:
    """The counters of one model version.

    Attributes:
        inference_count: requests times their batch size.
        execution_count: batches executed, those that failed included.
        failures: failed requests by reason.
        pending_count: requests waiting in the scheduler's queue at this moment.
        padding: set for a model that declares padding, by its scheduler.
        first_response_ms: from a request's arrival to its first response; None where nobody asks for it.
        duration_buckets: cumulative-free counts per bucket of DURATION_BUCKETS_S, the last one for everything above.
    """

    def __init__(self) -> None:
        self.last_inference_ms = 0
        self.inference_count = 0
        self.execution_count = 0
        self.restart_count = 0
        self.load_duration_s = 0.0
        self.pending_count = 0
        self.padding: PaddingStat | None = None
        self.first_response_ms: Histogram | None = None
        self.failures: dict[FailureReason, int] = dict.fromkeys(FailureReason, 0)
        self.duration_buckets = [0] * (len(DURATION_BUCKETS_S) + 1)
        self._success = _Duration()
        self._fail = _Duration()
        self._queue = _Duration()
        self._compute_input = _Duration()
        self._compute_infer = _Duration()
        self._compute_output = _Duration()
        self._cache_hit = _Duration()
        self._cache_miss = _Duration()
        self._batches: dict[int, _BatchCounters] = {}
        self._responses: list[_ResponseCounters] = []

    def record_success(self, batch_size: int, total_ns: int, queue_ns: int, compute: tuple[int, int, int]) -> None:
        """One request answered; `compute` is its batch's input, infer and output time in ns."""
        self.inference_count += batch_size
        self._success.count += 1
        self._success.ns += total_ns
        self._queue.count += 1
        self._queue.ns += queue_ns
        self._compute_input.count += 1
        self._compute_input.ns += compute[0]
        self._compute_infer.count += 1
        self._compute_infer.ns += compute[1]
        self._compute_output.count += 1
        self._compute_output.ns += compute[2]
        self.duration_buckets[bisect_left(DURATION_BUCKETS_S, total_ns * 1e-9)] += 1

    def record_padding(self, real_tokens: int, padding_tokens: int) -> None:
        """One batch of a model that declares padding."""
        if self.padding is not None:
            self.padding.real_tokens += real_tokens
            self.padding.padding_tokens += padding_tokens

    def record_cache_hit(self, total_ns: int, queue_ns: int, lookup_ns: int) -> None:
        """One request answered without executing: as in Triton neither an inference nor an execution."""
        self._success.count += 1
        self._success.ns += total_ns
        self._queue.count += 1
        self._queue.ns += queue_ns
        self._cache_hit.count += 1
        self._cache_hit.ns += lookup_ns
        self.duration_buckets[bisect_left(DURATION_BUCKETS_S, total_ns * 1e-9)] += 1

    def record_cache_miss(self, lookup_ns: int) -> None:
        """One request that was looked up in vain and is to be executed."""
        self._cache_miss.count += 1
        self._cache_miss.ns += lookup_ns

    def add_cache_insertion(self, insertion_ns: int, lookup_ns: int) -> None:
        """The answer to a request that missed was put into the cache; counts as time of the miss.

        Args:
            lookup_ns: what the look-up took, which was recorded when the request missed.
        """
        self._cache_miss.ns += insertion_ns

    def record_failure(self, reason: FailureReason, total_ns: int) -> None:
        """One request that ended with an error."""
        self._fail.count += 1
        self._fail.ns += total_ns
        self.failures[reason] += 1

    def record_first_response(self, waited_ns: int) -> None:
        """The first response to a request came so long after the request."""
        if self.first_response_ms is not None:
            self.first_response_ms.observe(waited_ns // 1_000_000)

    def record_response(self, number: int, kind: ResponseKind, infer_ns: int, output_ns: int) -> None:
        """One response of a decoupled model, the `number`-th of its request, counted from 0.

        Args:
            infer_ns: since the model began with the request, or sent the response before.
            output_ns: what it took to hand the response on.
        """
        if number >= MAX_COUNTED_RESPONSES:
            return
        while len(self._responses) <= number:
            self._responses.append(_ResponseCounters())
        counters = self._responses[number]
        if kind == "cancel":
            counters.cancel.add(output_ns)
            return
        counters.compute_infer.add(infer_ns)
        if kind == "empty_response":
            counters.empty_response.add(infer_ns)
            return
        counters.compute_output.add(output_ns)
        (counters.success if kind == "success" else counters.fail).add(infer_ns + output_ns)

    def record_execution(self, batch_size: int, compute: tuple[int, int, int], now_ms: int) -> None:
        """One batch executed, well or not."""
        self.last_inference_ms = now_ms
        self.execution_count += 1
        counters = self._batches.get(batch_size)
        if counters is None:
            counters = self._batches[batch_size] = _BatchCounters()
        counters.count += 1
        counters.input_ns += compute[0]
        counters.infer_ns += compute[1]
        counters.output_ns += compute[2]

    @property
    def inference_stats(self) -> Mapping[str, DurationStat]:
        """The durations under the names of the statistics extension."""
        return {
            "success": self._success.snapshot(),
            "fail": self._fail.snapshot(),
            "queue": self._queue.snapshot(),
            "compute_input": self._compute_input.snapshot(),
            "compute_infer": self._compute_infer.snapshot(),
            "compute_output": self._compute_output.snapshot(),
            "cache_hit": self._cache_hit.snapshot(),
            "cache_miss": self._cache_miss.snapshot(),
        }

    def batch_stats(self) -> Sequence[BatchStat]:
        """Executions by batch size, ascending."""
        return [
            BatchStat(
                size,
                DurationStat(counters.count, counters.input_ns),
                DurationStat(counters.count, counters.infer_ns),
                DurationStat(counters.count, counters.output_ns),
            )
            for size, counters in sorted(self._batches.items())
        ]

    def response_stats(self) -> Mapping[str, ResponseStat]:
        """Responses of a decoupled model by their number."""
        return {str(number): counters.snapshot() for number, counters in enumerate(self._responses)}

    def snapshot(self, name: str, version: int) -> ModelStatistics:
        """Everything as the statistics extension shows it."""
        return ModelStatistics(
            name=name,
            version=str(version),
            last_inference=self.last_inference_ms,
            inference_count=self.inference_count,
            execution_count=self.execution_count,
            inference_stats=self.inference_stats,
            batch_stats=tuple(self.batch_stats()),
            response_stats=self.response_stats(),
        )
