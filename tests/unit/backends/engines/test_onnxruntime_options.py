from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from conch.backend_api import InstanceSpec, ModelSource
from conch.backends import cores
from conch.backends.onnxruntime.options import SessionPlan, apply, plan_session
from conch.backends.onnxruntime.providers import CPU, CUDA, OPENVINO, TENSORRT, Provider, choose_providers
from conch.config import pbtxt
from conch.config.complete import normalize
from conch.config.schema import ModelConfig
from conch.core.metrics import CustomMetrics
from conch.errors import InvalidArgumentError, UnsupportedError

EVERYTHING = (TENSORRT, CUDA, OPENVINO, CPU)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 4)


def config(text: str) -> ModelConfig:
    return pbtxt.from_message(normalize(pbtxt.parse('name: "m" backend: "onnxruntime" ' + text), Path("/models/m")))


def plan(text: str, providers: list[Provider] | None = None, **settings: str) -> SessionPlan:
    source = ModelSource("m", 1, Path("/models/m"), {key.replace("_", "-"): value for key, value in settings.items()})
    spec = InstanceSpec(source, config(text), "m_0_0", "CPU", 0, CustomMetrics())
    return plan_session(spec, Path("/models/m/1/model.onnx"), providers or [(CPU, {})])


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }} '


# Threads


@pytest.mark.parametrize("count", [1, 2, 8])
def test_instances_that_share_a_session_share_a_pool_as_large_as_the_cores(count: int) -> None:
    assert plan(f"instance_group {{ count: {count} kind: KIND_CPU }}").intra_op_threads == 4


def test_all_groups_of_the_model_compete_but_passive_ones() -> None:
    groups = "instance_group { count: 1 kind: KIND_CPU } " * 2 + "instance_group { count: 5 passive: true }"
    assert plan(groups + parameter("share_session_between_instances", "0")).intra_op_threads == 2


def test_sessions_of_their_own_get_their_share_of_threads() -> None:
    groups = "instance_group { count: 2 kind: KIND_CPU } " + parameter("share_session_between_instances", "0")
    assert plan(groups).intra_op_threads == 2


def test_thread_counts_of_the_configuration_win() -> None:
    made = plan(parameter("intra_op_thread_count", "7") + parameter("inter_op_thread_count", "3"))
    assert (made.intra_op_threads, made.inter_op_threads) == (7, 3)


def test_a_count_of_zero_is_no_count() -> None:
    assert plan(parameter("intra_op_thread_count", "0") + "instance_group { count: 1 }").intra_op_threads == 4


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="'intra_op_thread_count': expected a number >= 0, got -1"):
        plan(parameter("intra_op_thread_count", "-1"))


def test_the_global_pool_takes_the_place_of_a_sessions_own() -> None:
    made = plan(parameter("intra_op_thread_count", "7"), enable_global_threadpool="1")
    assert (made.global_threads, made.intra_op_threads) == (True, 0)
    assert apply(made, onnxruntime).use_per_session_threads is False


# Session options


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (None, "ORT_ENABLE_ALL"),
        (0, "ORT_ENABLE_ALL"),
        (-1, "ORT_ENABLE_BASIC"),
        (1, "ORT_ENABLE_EXTENDED"),
        (2, "ORT_DISABLE_ALL"),
    ],
)
def test_graph_levels_are_tritons(level: int | None, expected: str) -> None:
    made = plan("" if level is None else f"optimization {{ graph {{ level: {level} }} }}")
    options = apply(made, onnxruntime)
    assert options.graph_optimization_level == getattr(onnxruntime.GraphOptimizationLevel, expected)


def test_options_reach_onnxruntime() -> None:
    made = plan(
        parameter("execution_mode", "1")
        + parameter("inter_op_thread_count", "2")
        + parameter("enable_mem_arena", "0")
        + parameter("enable_mem_pattern", "false")
        + parameter("session.set_denormal_as_zero", "1")
        + parameter("memory.enable_memory_arena_shrinkage", "cpu:0")
        + "instance_group { count: 1 }"
    )
    options = apply(made, onnxruntime)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (4, 2)
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert made.run_entries == {"memory.enable_memory_arena_shrinkage": "cpu:0"}


def test_memory_settings_that_are_not_given_stay_as_onnxruntime_has_them() -> None:
    fresh, options = onnxruntime.SessionOptions(), apply(plan(""), onnxruntime)
    assert options.enable_cpu_mem_arena == fresh.enable_cpu_mem_arena
    assert options.enable_mem_pattern == fresh.enable_mem_pattern


def test_threads_wait_without_spinning_unless_told_otherwise() -> None:
    entry = "session.intra_op.allow_spinning"
    assert apply(plan(""), onnxruntime).get_session_config_entry(entry) == "0"
    assert apply(plan(parameter(entry, "1")), onnxruntime).get_session_config_entry(entry) == "1"


# Execution providers


def providers(text: str, kind: str = "CPU", available: tuple[str, ...] = EVERYTHING) -> list[Provider]:
    return choose_providers(config(text), kind, 1, available)


def gpu(name: str, **parameters: str) -> str:
    given = "".join(f'parameters {{ key: "{key}" value: "{value}" }} ' for key, value in parameters.items())
    return f'optimization {{ execution_accelerators {{ gpu_execution_accelerator {{ name: "{name}" {given} }} }} }} '


CPU_OPENVINO = 'optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }'


def test_an_instance_on_the_cpu_has_the_cpu_provider_alone() -> None:
    assert providers("") == providers("", "MODEL") == [(CPU, {})]
    assert providers(gpu("tensorrt")) == [(CPU, {})]


def test_an_instance_on_a_gpu_has_cuda_on_that_device() -> None:
    made = providers("", "GPU")
    assert made == [(CUDA, {"device_id": "1"}), (CPU, {})]
    assert plan("", made).on_gpu
    assert not plan("").on_gpu


def test_sessions_on_a_gpu_are_not_shared_unless_asked_for() -> None:
    on_gpu = providers("", "GPU")
    assert not plan("", on_gpu).shared
    assert plan(parameter("share_session_between_instances", "true"), on_gpu).shared
    assert plan("").shared


def test_tensorrt_comes_before_cuda_and_its_options_are_translated() -> None:
    text = gpu("tensorrt", precision_mode="FP16", max_workspace_size_bytes="1000", trt_engine_cache_enable="1")
    assert providers(text, "GPU") == [
        (
            TENSORRT,
            {
                "trt_fp16_enable": "1",
                "trt_max_workspace_size": "1000",
                "trt_engine_cache_enable": "1",
                "device_id": "1",
            },
        ),
        (CUDA, {"device_id": "1"}),
        (CPU, {}),
    ]


def test_cuda_options_come_from_the_accelerator_and_from_parameters() -> None:
    text = (
        gpu("cuda", cudnn_conv_use_max_workspace="0")
        + parameter("cudnn_conv_algo_search", "1")
        + parameter("arena_extend_strategy", "1")
        + parameter("gpu_mem_limit", "4096")
    )
    assert providers(text, "GPU")[0] == (
        CUDA,
        {
            "gpu_mem_limit": "4096",
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_use_max_workspace": "0",
            "device_id": "1",
        },
    )


def test_openvino_accelerates_the_cpu() -> None:
    assert providers(CPU_OPENVINO) == [(OPENVINO, {"device_type": "CPU"}), (CPU, {})]


def test_a_gpu_without_the_provider_falls_back_to_the_cpu_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert providers("", "GPU", (CPU,)) == [(CPU, {})]
    assert "pip install onnxruntime-gpu" in caplog.text


@pytest.mark.parametrize(
    ("text", "kind", "available", "error"),
    [
        (gpu("tensorrt"), "GPU", (CUDA, CPU), "'tensorrt' is requested, but the installed onnxruntime has no Tensorrt"),
        (CPU_OPENVINO, "CPU", (CPU,), "'openvino' is requested, but the installed onnxruntime has no OpenVINO"),
    ],
)
def test_an_accelerator_that_is_not_installed_is_refused(
    text: str, kind: str, available: tuple[str, ...], error: str
) -> None:
    with pytest.raises(UnsupportedError, match=error):
        providers(text, kind, available)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (gpu("magic"), "unknown Execution Accelerator 'magic' is requested"),
        (gpu("tensorrt", precision_mode="FP4"), "unsupported precision mode 'FP4' is requested"),
        (gpu("tensorrt", speed="9"), "unknown parameter 'speed' is provided for TensorRT Execution Accelerator"),
        (parameter("cudnn_conv_algo_search", "3"), "unsupported cudnn_conv_algo_search value '3' is requested"),
        (CPU_OPENVINO.replace("openvino", "mkl"), "unknown Execution Accelerator 'mkl' is requested"),
    ],
)
def test_accelerators_and_options_that_do_not_exist_are_refused(text: str, error: str) -> None:
    with pytest.raises(InvalidArgumentError, match=error):
        providers(text, "GPU")
