"""Statistics that also keep what `--metrics-config` asks for beyond counters: summaries and histograms of latencies."""

from __future__ import annotations

from collections.abc import Sequence

from conch.config.metrics_options import MetricsOptions
from conch.config.schema import ModelConfig
from conch.core.clock import Clock
from conch.core.metrics import Histogram
from conch.core.sliding_summary import SlidingSummary
from conch.core.stats import ModelStats

#: Upper bounds in ms of the time to the first response, where a model's configuration has none of its own.
FIRST_RESPONSE_BUCKETS_MS: tuple[float, ...] = (100, 500, 2000, 5000)


def make_stats(config: ModelConfig, options: MetricsOptions, clock: Clock) -> ModelStats:
    """The statistics of a model version that is to be loaded."""
    stats = SummarisedStats(options.summary_quantiles, clock) if options.summary_latencies else ModelStats()
    if options.histogram_latencies and config.decoupled:
        bounds = config.first_response_buckets or FIRST_RESPONSE_BUCKETS_MS
        stats.first_response_ms = Histogram(bounds, [0] * (len(bounds) + 1))
    return stats


class SummarisedStats(ModelStats):
    """Statistics with summaries of what they count.

    Attributes:
        quantiles: what the summaries are asked for.
        summaries: in microseconds, by the fields of `inference_stats`.
    """

    def __init__(self, quantiles: Sequence[float], clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.quantiles = quantiles
        self.summaries = {
            field: SlidingSummary()
            for field in (
                "success",
                "queue",
                "compute_input",
                "compute_infer",
                "compute_output",
                "cache_hit",
                "cache_miss",
            )
        }

    def summary(self, field: str) -> tuple[SlidingSummary, Sequence[float]]:
        """A summary, and its quantiles at this moment."""
        summary = self.summaries[field]
        return summary, summary.quantiles(self.quantiles, self._clock.monotonic_ns())

    def record_success(self, batch_size: int, total_ns: int, queue_ns: int, compute: tuple[int, int, int]) -> None:
        """See `ModelStats`."""
        super().record_success(batch_size, total_ns, queue_ns, compute)
        self._observe(
            success=total_ns,
            queue=queue_ns,
            compute_input=compute[0],
            compute_infer=compute[1],
            compute_output=compute[2],
        )

    def record_cache_hit(self, total_ns: int, queue_ns: int, lookup_ns: int) -> None:
        """See `ModelStats`."""
        super().record_cache_hit(total_ns, queue_ns, lookup_ns)
        self._observe(success=total_ns, queue=queue_ns, cache_hit=lookup_ns)

    def add_cache_insertion(self, insertion_ns: int, lookup_ns: int) -> None:
        """See `ModelStats`."""
        super().add_cache_insertion(insertion_ns, lookup_ns)
        self._observe(cache_miss=insertion_ns + lookup_ns)

    def _observe(self, **durations_ns: int) -> None:
        now_ns = self._clock.monotonic_ns()
        for field, duration_ns in durations_ns.items():
            self.summaries[field].observe(max(0, duration_ns) // 1000, now_ns)
