"""The metrics page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from conch.config.metrics_options import MetricsOptions
from conch.config.schema import DynamicBatching
from conch.core.api import LogSettings, ServerMetadata
from conch.core.cache import LocalCache, ModelCache
from conch.core.latencies import make_stats
from conch.core.log_settings import LogControl
from conch.core.metrics import CustomMetrics
from conch.core.server import InferenceServer
from conch.errors import InvalidArgumentError
from conch.testing import EchoBackend, FakeClock
from conch.wire.gpus import GpuReading, Gpus
from conch.wire.prometheus import MetricsRenderer
from tests.unit.core.conftest import Harness, make_config, make_request
from tests.unit.wire.fake_nvml import FakeNvml


class _Models:
    """Stands in for a lifecycle with one model."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def models(self) -> list[object]:
        return [self._harness.model]


def page(
    metrics: CustomMetrics,
    requests: int = 2,
    cache: LocalCache | None = None,
    gpus: Sequence[GpuReading] = (),
    **tags: str,
) -> list[str]:
    async def run() -> list[str]:
        model_cache = None if cache is None else ModelCache(cache, b"model")
        config = make_config(batching=DynamicBatching())
        config.message.metric_tags.update(tags)
        harness = Harness(EchoBackend, config, cache=model_cache)
        await asyncio.gather(*(harness.model.infer(make_request()) for _ in range(requests)))
        logs = LogControl(LogSettings("", True, True, True, 0, "default"))
        server = InferenceServer(ServerMetadata("s", "1", ()), _Models(harness), metrics, logs, cache=cache)  # type: ignore[arg-type]
        lines = MetricsRenderer(server).render(gpus).decode().splitlines()
        await harness.model.close()
        return lines

    return asyncio.run(run())


def test_counters_have_tritons_names_and_labels() -> None:
    lines = page(CustomMetrics())
    assert 'nv_inference_request_success{model="echo",version="1"} 2' in lines
    assert 'nv_inference_request_failure{model="echo",reason="REJECTED",version="1"} 0' in lines
    assert 'nv_inference_exec_count{model="echo",version="1"} 1' in lines
    assert 'nv_inference_count{model="echo",version="1"} 2' in lines
    assert 'nv_inference_pending_request_count{model="echo",version="1"} 0' in lines
    assert any(line.startswith("nv_cpu_memory_total_bytes ") for line in lines)


def test_metric_tags_of_the_configuration_are_labels_of_every_metric_of_the_model() -> None:
    lines = [line for line in page(CustomMetrics(), team="vision") if 'model="echo"' in line]
    assert 'nv_inference_request_success{model="echo",version="1",team="vision"} 2' in lines
    assert [line for line in lines if 'team="vision"' not in line] == []


def test_cached_requests_are_counted_apart_from_inferences() -> None:
    cache = LocalCache(1 << 20, FakeClock())
    lines = page(CustomMetrics(), requests=3, cache=cache)
    assert 'nv_inference_request_success{model="echo",version="1"} 3' in lines
    assert 'nv_inference_count{model="echo",version="1"} 1' in lines
    assert 'nv_cache_num_hits_per_model{model="echo",version="1"} 2' in lines
    assert 'nv_cache_num_misses_per_model{model="echo",version="1"} 1' in lines
    assert "# TYPE nv_cache_miss_duration_per_model counter" in lines
    assert "nv_cache_num_entries 1" in lines
    assert f"nv_cache_util {cache.used_bytes / cache.capacity_bytes!r}" in lines


def test_without_models_that_use_it_there_are_no_metrics_of_the_cache() -> None:
    assert not any("nv_cache_" in line for line in page(CustomMetrics()))


def test_the_duration_histogram_is_cumulative_and_ends_with_all() -> None:
    lines = [line for line in page(CustomMetrics(), requests=3) if "duration_seconds_bucket" in line]
    counts = [int(line.rsplit(" ", 1)[1]) for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] == 3
    assert 'le="+Inf"' in lines[-1]


def test_custom_metrics_of_models_are_shown_with_escaped_labels() -> None:
    metrics = CustomMetrics()
    metrics.declare("requests", "How many", "counter")
    metrics.add("requests", {"path": 'a"b\n'}, 2)
    metrics.add("requests", {"path": 'a"b\n'}, 0.5)
    metrics.declare("sizes", "How large", "histogram")
    for value in (0.5, 1.0, 9.0):
        metrics.observe("sizes", {}, [value], (1.0, 5.0))
    lines = page(metrics)
    assert 'requests{path="a\\"b\\n"} 2.5' in lines
    assert [line for line in lines if line.startswith("sizes")] == [
        'sizes_bucket{le="1"} 2',
        'sizes_bucket{le="5"} 2',
        'sizes_bucket{le="+Inf"} 3',
        "sizes_sum 10.5",
        "sizes_count 3",
    ]


def test_gpus_have_tritons_names_and_show_what_their_driver_tells() -> None:
    whole = GpuReading("GPU-1", 0.25, 80 << 30, 1 << 30, 61.5, 300.0, 12.0)
    partial = GpuReading("GPU-2", None, 80 << 30, 0, None, None, None)
    lines = page(CustomMetrics(), gpus=(whole, partial))
    assert [line for line in lines if "gpu_uuid" in line] == [
        'nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25',
        f'nv_gpu_memory_total_bytes{{gpu_uuid="GPU-1"}} {80 << 30}',
        f'nv_gpu_memory_total_bytes{{gpu_uuid="GPU-2"}} {80 << 30}',
        f'nv_gpu_memory_used_bytes{{gpu_uuid="GPU-1"}} {1 << 30}',
        'nv_gpu_memory_used_bytes{gpu_uuid="GPU-2"} 0',
        'nv_gpu_power_usage{gpu_uuid="GPU-1"} 61.5',
        'nv_gpu_power_limit{gpu_uuid="GPU-1"} 300',
        'nv_energy_consumption{gpu_uuid="GPU-1"} 12',
    ]
    assert "# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)" in lines
    assert "# TYPE nv_energy_consumption counter" in lines


def test_without_gpus_there_are_no_metrics_of_them_and_no_pinned_memory() -> None:
    lines = page(CustomMetrics())
    assert not any("nv_gpu_" in line or "nv_energy" in line for line in lines)
    assert "nv_pinned_memory_pool_total_bytes 0" in lines
    assert "nv_pinned_memory_pool_used_bytes 0" in lines


def test_the_page_reads_the_gpus_it_was_given() -> None:
    async def run() -> list[str]:
        logs = LogControl(LogSettings("", True, True, True, 0, "default"))
        harness = Harness(EchoBackend, make_config(batching=DynamicBatching()))
        server = InferenceServer(ServerMetadata("s", "1", ()), _Models(harness), CustomMetrics(), logs)  # type: ignore[arg-type]
        renderer = MetricsRenderer(server, gpus=Gpus(FakeNvml("GPU-a")))
        lines = (await renderer.page()).decode().splitlines()
        await harness.model.close()
        return lines

    assert 'nv_gpu_power_limit{gpu_uuid="GPU-a"} 700' in asyncio.run(run())


def test_metrics_show_from_the_moment_they_are_made_and_families_with_the_first_of_them() -> None:
    metrics = CustomMetrics()
    for name, kind in (("empty", "gauge"), ("empty_too", "histogram"), ("made", "histogram")):
        metrics.declare(name, "", kind)
    metrics.observe("made", {"a": "b"}, (), (1.0,))
    lines = page(metrics)
    assert not any("empty" in line for line in lines)
    assert [line for line in lines if line.startswith("made")] == [
        'made_bucket{a="b",le="1"} 0',
        'made_bucket{a="b",le="+Inf"} 0',
        'made_sum{a="b"} 0',
        'made_count{a="b"} 0',
    ]


def test_numbers_that_are_no_finite_ones_are_spelled_as_the_format_has_it() -> None:
    metrics = CustomMetrics()
    metrics.declare("number", "", "gauge")
    values = {"+Inf": float("inf"), "-Inf": float("-inf"), "NaN": float("nan"), "0.5": 0.5, "-3": -3, "1e+20": 1e20}
    for text, value in values.items():
        metrics.set("number", {"is": text}, value)
    shown = [line for line in page(metrics) if line.startswith("number{")]
    assert shown == [f'number{{is="{text}"}} {text}' for text in values]


def test_a_metric_family_keeps_its_kind() -> None:
    metrics = CustomMetrics()
    metrics.declare("x", "", "counter")
    metrics.declare("x", "again", "counter")
    for wrong in (
        lambda: metrics.declare("x", "", "gauge"),
        lambda: metrics.add("x", {}, -1),
        lambda: metrics.set("x", {}, 1),
    ):
        try:
            wrong()
        except InvalidArgumentError:
            continue
        raise AssertionError("accepted")
    assert metrics.value("x", {}) == 0


def summarised(options: MetricsOptions, *, decoupled: bool = False, cache: LocalCache | None = None) -> list[str]:
    """The page after three requests, with the times of a clock that stands still."""

    async def run() -> list[str]:
        config = msgspec.structs.replace(make_config(batching=DynamicBatching()), decoupled=decoupled)
        model_cache = None if cache is None else ModelCache(cache, b"model")
        harness = Harness(EchoBackend, config, cache=model_cache, stats=make_stats(config, options, FakeClock()))
        for _ in range(3):
            await harness.model.infer(make_request())
        logs = LogControl(LogSettings("", True, True, True, 0, "default"))
        server = InferenceServer(ServerMetadata("s", "1", ()), _Models(harness), CustomMetrics(), logs, cache=cache)  # type: ignore[arg-type]
        renderer = MetricsRenderer(server, counter_latencies=options.counter_latencies)
        lines = renderer.render().decode().splitlines()
        await harness.model.close()
        return lines

    return asyncio.run(run())


def test_summaries_have_tritons_names_and_labels() -> None:
    lines = summarised(MetricsOptions(summary_latencies=True, summary_quantiles=(0.5, 0.99)))
    for part in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        name = f"nv_inference_{part}_summary_us"
        assert f"# TYPE {name} summary" in lines
        assert f'{name}_count{{model="echo",version="1"}} 3' in lines
        assert any(line.startswith(f'{name}_sum{{model="echo",version="1"}} ') for line in lines)
        assert any(line.startswith(f'{name}{{model="echo",version="1",quantile="0.99"}} ') for line in lines)
    assert 'nv_inference_queue_summary_us{model="echo",version="1",quantile="0.5"} 0' in lines
    assert any(line.startswith("nv_inference_queue_duration_us{") for line in lines)
    assert not any("nv_cache_" in line or "first_response" in line for line in lines)


def test_summaries_of_the_response_cache_are_those_of_models_that_use_it() -> None:
    lines = summarised(MetricsOptions(summary_latencies=True), cache=LocalCache(1 << 20, FakeClock()))
    assert 'nv_cache_hit_summary_per_model_count{model="echo",version="1"} 2' in lines
    assert 'nv_cache_miss_summary_per_model_count{model="echo",version="1"} 1' in lines
    assert 'nv_inference_compute_infer_summary_us_count{model="echo",version="1"} 1' in lines


def test_a_summary_of_nothing_has_no_numbers() -> None:
    lines = summarised(MetricsOptions(summary_latencies=True), cache=LocalCache(1, FakeClock()))
    assert 'nv_cache_hit_summary_per_model{model="echo",version="1",quantile="0.5"} NaN' in lines


def test_counters_of_latencies_can_be_left_out() -> None:
    lines = summarised(MetricsOptions(counter_latencies=False), cache=LocalCache(1 << 20, FakeClock()))
    assert not any("_duration_us" in line or "_per_model" in line for line in lines)
    assert 'nv_inference_request_success{model="echo",version="1"} 3' in lines
    assert not any("summary" in line for line in lines)


def test_first_responses_of_decoupled_models_have_a_histogram() -> None:
    name = "nv_inference_first_response_histogram_ms"
    assert not any(name in line for line in summarised(MetricsOptions(histogram_latencies=True)))
    lines = summarised(MetricsOptions(histogram_latencies=True), decoupled=True)
    assert f"# TYPE {name} histogram" in lines
    assert f'{name}_bucket{{model="echo",version="1",le="100"}} 0' in lines
    assert f'{name}_count{{model="echo",version="1"}} 0' in lines
