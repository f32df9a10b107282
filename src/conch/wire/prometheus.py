"""Metrics as Prometheus text (exposition format 0.0.4), under Triton's names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import psutil

from conch.core.cache import LocalCache
from conch.core.latencies import SummarisedStats
from conch.core.metrics import Family
from conch.core.model import Model
from conch.core.server import InferenceServer
from conch.core.stats import DURATION_BUCKETS_S
from conch.wire.gpus import GpuReading, Gpus

_CACHED = "(includes cached requests)"
_NOT_CACHED = "(does not include cached requests)"

#: (name, help, field of ModelStatistics.inference_stats whose duration it is)
_DURATIONS = (
    (
        "nv_inference_request_duration_us",
        f"Cumulative inference request duration in microseconds {_CACHED}",
        "success",
    ),
    ("nv_inference_queue_duration_us", f"Cumulative inference queuing duration in microseconds {_CACHED}", "queue"),
    (
        "nv_inference_compute_input_duration_us",
        f"Cumulative compute input duration in microseconds {_NOT_CACHED}",
        "compute_input",
    ),
    (
        "nv_inference_compute_infer_duration_us",
        f"Cumulative compute inference duration in microseconds {_NOT_CACHED}",
        "compute_infer",
    ),
    (
        "nv_inference_compute_output_duration_us",
        f"Cumulative inference compute output duration in microseconds {_NOT_CACHED}",
        "compute_output",
    ),
)


#: (name, help, field of ModelStatistics.inference_stats, whether its duration is shown rather than its count)
_CACHE_METRICS = (
    ("nv_cache_num_hits_per_model", "Number of cache hits per model", "cache_hit", False),
    ("nv_cache_num_misses_per_model", "Number of cache misses per model", "cache_miss", False),
    ("nv_cache_hit_duration_per_model", "Total cache hit duration per model, in microseconds", "cache_hit", True),
    (
        "nv_cache_miss_duration_per_model",
        "Total cache miss (insert+lookup) duration per model, in microseconds",
        "cache_miss",
        True,
    ),
)


#: (name, help, field of ModelStatistics.inference_stats)
_SUMMARIES = (
    (
        "nv_inference_request_summary_us",
        f"Summary of inference request duration in microseconds {_CACHED}",
        "success",
    ),
    ("nv_inference_queue_summary_us", f"Summary of inference queuing duration in microseconds {_CACHED}", "queue"),
    (
        "nv_inference_compute_input_summary_us",
        f"Cumulative compute input duration in microseconds {_NOT_CACHED}",
        "compute_input",
    ),
    (
        "nv_inference_compute_infer_summary_us",
        f"Cumulative compute inference duration in microseconds {_NOT_CACHED}",
        "compute_infer",
    ),
    (
        "nv_inference_compute_output_summary_us",
        f"Cumulative inference compute output duration in microseconds {_NOT_CACHED}",
        "compute_output",
    ),
)

_CACHE_SUMMARIES = (
    (
        "nv_cache_hit_summary_per_model",
        "Summary of cache hit counts/durations per model, in microseconds.",
        "cache_hit",
    ),
    (
        "nv_cache_miss_summary_per_model",
        "Summary of cache miss counts/durations per model, in microseconds.",
        "cache_miss",
    ),
)

#: (name, help, type, field of GpuReading)
GPU_METRICS = (
    ("nv_gpu_utilization", "GPU utilization rate [0.0 - 1.0)", "gauge", "utilization"),
    ("nv_gpu_memory_total_bytes", "GPU total memory, in bytes", "gauge", "memory_total_bytes"),
    ("nv_gpu_memory_used_bytes", "GPU used memory, in bytes", "gauge", "memory_used_bytes"),
    ("nv_gpu_power_usage", "GPU power usage in watts", "gauge", "power_w"),
    ("nv_gpu_power_limit", "GPU power management limit in watts", "gauge", "power_limit_w"),
    (
        "nv_energy_consumption",
        "GPU energy consumption in joules since the Triton Server started",
        "counter",
        "energy_j",
    ),
)

#: (name, help); conch has no such pool, and says what a Triton without a GPU says.
_PINNED_MEMORY = (
    ("nv_pinned_memory_pool_total_bytes", "Pinned memory pool total memory size, in bytes"),
    ("nv_pinned_memory_pool_used_bytes", "Pinned memory pool used memory size, in bytes"),
)


class MetricsRenderer:
    """Renders what a server has done.

    Args:
        cpu_metrics: whether to show CPU utilisation and memory.
        counter_latencies: whether to show sums of durations and the counters of models' response caches.
        gpus: the GPUs to show, None for none.
    """

    def __init__(
        self,
        server: InferenceServer,
        *,
        cpu_metrics: bool = True,
        counter_latencies: bool = True,
        gpus: Gpus | None = None,
    ) -> None:
        self._server = server
        self._gpus = gpus
        self._counter_latencies = counter_latencies
        self._cpu_metrics = cpu_metrics
        if cpu_metrics:
            psutil.cpu_percent(None)  # the first call has no interval behind it and always says 0

    async def page(self) -> bytes:
        """The whole page, the GPUs read while the event loop goes on."""
        return self.render(await self._gpus.read_aside() if self._gpus is not None else ())

    def render(self, gpus: Sequence[GpuReading] = ()) -> bytes:
        """The whole page with those readings of GPUs."""
        text = _Page()
        models = list(self._server.models())
        _render_counts(text, models)
        if self._counter_latencies:
            _render_durations(text, models)
            _render_model_caches(text, models)
        _render_summaries(text, models)
        _render_first_responses(text, models)
        _render_gauges(text, models)
        _render_padding(text, models)
        _render_duration_histogram(text, models)
        if isinstance(self._server.cache, LocalCache) and any(model.cached for model in models):
            _render_local_cache(text, self._server.cache)
        _render_gpus(text, gpus)
        for name, description in _PINNED_MEMORY:
            text.family(name, description, "gauge")
            text.sample(name, {}, 0)
        if self._cpu_metrics:
            memory = psutil.virtual_memory()
            text.family("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", "gauge")
            text.sample("nv_cpu_utilization", {}, psutil.cpu_percent(None) / 100)
            text.family("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", "gauge")
            text.sample("nv_cpu_memory_total_bytes", {}, memory.total)
            text.family("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", "gauge")
            text.sample("nv_cpu_memory_used_bytes", {}, memory.total - memory.available)
        for family in self._server.custom_metrics:
            _render_custom(text, family)
        return text.encode()


def render_families(families: Iterable[Family]) -> bytes:
    """Custom metrics alone, in the form of the page."""
    text = _Page()
    for family in families:
        _render_custom(text, family)
    return text.encode()


class _Page:
    """Lines of the exposition format."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, description: str, kind: str) -> None:
        description = description.replace("\\", "\\\\").replace("\n", "\\n")
        self._lines.append(f"# HELP {name} {description}\n# TYPE {name} {kind}")

    def sample(self, name: str, labels: Mapping[str, str], value: float) -> None:
        if labels:
            pairs = ",".join(f'{key}="{_escape(label)}"' for key, label in labels.items())
            name = f"{name}{{{pairs}}}"
        self._lines.append(f"{name} {_number(value)}")

    def histogram(
        self, name: str, labels: Mapping[str, str], bounds: Sequence[float], counts: Sequence[int], total: float
    ) -> None:
        """`counts` per bucket, not cumulative, one more than `bounds`."""
        cumulative = list(accumulate(counts))
        for bound, count in zip([*map(_number, bounds), "+Inf"], cumulative, strict=True):
            self.sample(f"{name}_bucket", {**labels, "le": bound}, count)
        self.sample(f"{name}_sum", labels, total)
        self.sample(f"{name}_count", labels, cumulative[-1])

    def encode(self) -> bytes:
        return ("\n".join(self._lines) + "\n").encode()


def _labels(model: Model, **more: str) -> dict[str, str]:
    tags = dict(model.config.message.metric_tags)
    namespace = {"namespace": model.namespace} if model.namespace else {}
    return {"model": model.config.name, **namespace, **more, "version": str(model.version), **tags}


def _render_counts(text: _Page, models: Sequence[Model]) -> None:
    text.family("nv_inference_request_success", "Number of successful inference requests, all batch sizes", "counter")
    for model in models:
        count = model.stats.inference_stats["success"].count
        text.sample("nv_inference_request_success", _labels(model), count)
    text.family("nv_inference_request_failure", "Number of failed inference requests, all batch sizes", "counter")
    for model in models:
        for reason, count in model.stats.failures.items():
            text.sample("nv_inference_request_failure", _labels(model, reason=reason.value), count)
    text.family("nv_inference_count", "Number of inferences performed (does not include cached requests)", "counter")
    for model in models:
        text.sample("nv_inference_count", _labels(model), model.stats.inference_count)
    text.family(
        "nv_inference_exec_count", "Number of model executions performed (does not include cached requests)", "counter"
    )
    for model in models:
        text.sample("nv_inference_exec_count", _labels(model), model.stats.execution_count)


def _render_durations(text: _Page, models: Sequence[Model]) -> None:
    for name, description, field in _DURATIONS:
        text.family(name, description, "counter")
        for model in models:
            text.sample(name, _labels(model), model.stats.inference_stats[field].ns // 1000)


def _render_summaries(text: _Page, models: Sequence[Model]) -> None:
    cached = [model for model in models if model.cached]
    for families, shown in ((_SUMMARIES, models), (_CACHE_SUMMARIES, cached)):
        summarised = [(model, model.stats) for model in shown if isinstance(model.stats, SummarisedStats)]
        if not summarised:
            continue
        for name, description, field in families:
            text.family(name, description, "summary")
            for model, stats in summarised:
                labels = _labels(model)
                summary, values = stats.summary(field)
                text.sample(f"{name}_count", labels, summary.count)
                text.sample(f"{name}_sum", labels, summary.total)
                for quantile, value in zip(stats.quantiles, values, strict=True):
                    text.sample(name, {**labels, "quantile": _number(quantile)}, value)


def _render_first_responses(text: _Page, models: Sequence[Model]) -> None:
    name = "nv_inference_first_response_histogram_ms"
    observed = [model for model in models if model.stats.first_response_ms is not None]
    if observed:
        text.family(name, "Duration from request to first response in milliseconds", "histogram")
    for model in observed:
        histogram = model.stats.first_response_ms
        if histogram is not None:
            text.histogram(name, _labels(model), histogram.bounds, histogram.counts, histogram.total)


def _render_gauges(text: _Page, models: Sequence[Model]) -> None:
    text.family(
        "nv_inference_pending_request_count",
        "Instantaneous number of pending requests awaiting execution per-model.",
        "gauge",
    )
    for model in models:
        text.sample("nv_inference_pending_request_count", _labels(model), model.stats.pending_count)
    text.family("nv_model_load_duration_secs", "Model load time in seconds", "gauge")
    for model in models:
        text.sample("nv_model_load_duration_secs", _labels(model), model.stats.load_duration_s)
    text.family("conch_instance_restart_count", "Number of instances restarted after they had died", "counter")
    for model in models:
        text.sample("conch_instance_restart_count", _labels(model), model.stats.restart_count)


def _render_model_caches(text: _Page, models: Sequence[Model]) -> None:
    cached = [model for model in models if model.cached]
    if not cached:
        return
    for name, description, field, is_duration in _CACHE_METRICS:
        text.family(name, description, "counter")
        for model in cached:
            stat = model.stats.inference_stats[field]
            text.sample(name, _labels(model), stat.ns // 1000 if is_duration else stat.count)


def _render_local_cache(text: _Page, cache: LocalCache) -> None:
    samples: tuple[tuple[str, str, float], ...] = (
        ("nv_cache_util", "Cache utilization [0.0 - 1.0]", cache.used_bytes / cache.capacity_bytes),
        ("nv_cache_num_entries", "Number of responses stored in response cache", len(cache)),
        ("nv_cache_num_lookups", "Number of cache lookups in response cache", cache.hit_count + cache.miss_count),
        ("nv_cache_num_hits", "Number of cache hits in response cache", cache.hit_count),
        ("nv_cache_num_misses", "Number of cache misses in response cache", cache.miss_count),
        ("nv_cache_num_evictions", "Number of cache evictions in response cache", cache.eviction_count),
        (
            "nv_cache_lookup_duration",
            "Total cache lookup duration (hit and miss), in microseconds",
            cache.lookup_ns // 1000,
        ),
        ("nv_cache_insertion_duration", "Total cache insertion duration, in microseconds", cache.insertion_ns // 1000),
    )
    for name, description, value in samples:
        text.family(name, description, "gauge")
        text.sample(name, {}, value)


def _render_gpus(text: _Page, gpus: Sequence[GpuReading]) -> None:
    for name, description, kind, field in GPU_METRICS:
        told = [(gpu.uuid, getattr(gpu, field)) for gpu in gpus if getattr(gpu, field) is not None]
        if told:
            text.family(name, description, kind)
        for uuid, value in told:
            text.sample(name, {"gpu_uuid": uuid}, value)


def _render_padding(text: _Page, models: Sequence[Model]) -> None:
    name = "conch_padding_elements_total"
    text.family(name, "Real and padding tokens in the batches of models that declare padding", "counter")
    for model in models:
        tokens = model.stats.padding
        if tokens is not None:
            text.sample(name, _labels(model, kind="real"), tokens.real_tokens)
            text.sample(name, _labels(model, kind="padding"), tokens.padding_tokens)


def _render_duration_histogram(text: _Page, models: Sequence[Model]) -> None:
    name = "conch_inference_request_duration_seconds"
    text.family(name, "Duration of successful inference requests from arrival to answer", "histogram")
    for model in models:
        total_s = model.stats.inference_stats["success"].ns * 1e-9
        text.histogram(name, _labels(model), DURATION_BUCKETS_S, model.stats.duration_buckets, total_s)


def _render_custom(text: _Page, family: Family) -> None:
    if not family.values and not family.histograms:
        return
    text.family(family.name, family.description, family.kind)
    for labels, value in family.values.items():
        text.sample(family.name, dict(labels), value)
    for labels, histogram in family.histograms.items():
        text.histogram(family.name, dict(labels), histogram.bounds, histogram.counts, histogram.total)


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))
