"""Metrics as Prometheus text (exposition format 0.0.4), under Triton's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import psutil

from conch.core.metrics import Family
from conch.core.model import Model
from conch.core.server import InferenceServer
from conch.core.stats import DURATION_BUCKETS_S

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


class MetricsRenderer:
    """Renders what a server has done.

    Args:
        cpu_metrics: whether to show CPU utilisation and memory.
    """

    def __init__(self, server: InferenceServer, *, cpu_metrics: bool = True) -> None:
        self._server = server
        self._cpu_metrics = cpu_metrics
        if cpu_metrics:
            psutil.cpu_percent(None)  # the first call has no interval behind it and always says 0

    def render(self) -> bytes:
        """The whole page."""
        text = _Page()
        models = list(self._server.models())
        _render_counts(text, models)
        _render_gauges(text, models)
        _render_duration_histogram(text, models)
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
    return {"model": model.config.name, **more, "version": str(model.version), **tags}


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
    for name, description, field in _DURATIONS:
        text.family(name, description, "counter")
        for model in models:
            text.sample(name, _labels(model), model.stats.inference_stats[field].ns // 1000)


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


def _render_duration_histogram(text: _Page, models: Sequence[Model]) -> None:
    name = "conch_inference_request_duration_seconds"
    text.family(name, "Duration of successful inference requests from arrival to answer", "histogram")
    for model in models:
        total_s = model.stats.inference_stats["success"].ns * 1e-9
        text.histogram(name, _labels(model), DURATION_BUCKETS_S, model.stats.duration_buckets, total_s)


def _render_custom(text: _Page, family: Family) -> None:
    text.family(family.name, family.description, family.kind)
    for labels, value in family.values.items():
        text.sample(family.name, dict(labels), value)
    for labels, histogram in family.histograms.items():
        text.histogram(family.name, dict(labels), histogram.bounds, histogram.counts, histogram.total)


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))
