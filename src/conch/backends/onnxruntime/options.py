"""How a session is made: read from the model configuration and `--backend-config`, as Triton's backend spells it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from conch.backend_api import InstanceSpec
from conch.backends import cores
from conch.backends.onnxruntime.providers import Provider
from conch.backends.parameters import bool_of, int_of
from conch.config.schema import ModelConfig
from conch.errors import InvalidArgumentError

DEFAULT_MAX_BATCH_SIZE = 4

#: `optimization { graph { level } }` -> onnxruntime's name.
_GRAPH_LEVELS = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}

#: Threads that wait actively for work make one session faster and everything else on these cores slower.
_SPINNING = ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning")

_RUN_ENTRIES = ("memory.enable_memory_arena_shrinkage",)


class SessionPlan(msgspec.Struct, frozen=True):
    """Everything a session is made with.

    Attributes:
        path: the .onnx file.
        providers: in order of preference.
        graph_level: onnxruntime's name of the optimization level.
        parallel: whether branches of the graph run in parallel.
        intra_op_threads: threads that share the work of an operator, the calling thread included.
        inter_op_threads: threads that run operators of a parallel graph; 0 for the runtime's default.
        global_threads: whether all sessions share the process's thread pools instead.
        memory: `enable_cpu_mem_arena` and `enable_mem_pattern`, where the configuration says something of them.
        entries: session configuration entries.
        run_entries: run configuration entries.
        custom_ops: libraries of custom operators.
        shared: whether the instances on one device use one session.
    """

    path: Path
    providers: tuple[Provider, ...]
    graph_level: str
    parallel: bool
    intra_op_threads: int
    inter_op_threads: int
    global_threads: bool
    memory: Mapping[str, bool]
    entries: Mapping[str, str]
    run_entries: Mapping[str, str]
    custom_ops: tuple[str, ...]
    shared: bool

    @property
    def on_gpu(self) -> bool:
        """Whether the preferred provider computes on a GPU."""
        return "device_id" in self.providers[0][1]


def plan_session(spec: InstanceSpec, path: Path, providers: list[Provider]) -> SessionPlan:
    """The plan for one instance.

    Raises:
        InvalidArgumentError: a parameter has a value that it cannot have.
    """
    config, parameters = spec.config, spec.config.parameters
    on_gpu = "device_id" in providers[0][1]
    shared = bool_of(parameters, "share_session_between_instances", not on_gpu)
    mode = int_of(parameters, "execution_mode", 0)
    if mode not in (0, 1):
        raise InvalidArgumentError(
            f"Invalid configuration value provided. Expected values for execution_mode are 0 or 1 but got {mode} ."
        )
    global_threads = bool_of(spec.source.settings, "enable-global-threadpool", False)
    return SessionPlan(
        path=path,
        providers=tuple(providers),
        graph_level=_GRAPH_LEVELS.get(config.message.optimization.graph.level, "ORT_ENABLE_ALL"),
        parallel=mode == 1,
        intra_op_threads=0 if global_threads else _intra_op_threads(config, shared),
        inter_op_threads=int_of(parameters, "inter_op_thread_count", 0),
        global_threads=global_threads,
        memory={
            attribute: bool_of(parameters, key, True)
            for key, attribute in (("enable_mem_arena", "enable_cpu_mem_arena"), ("enable_mem_pattern",) * 2)
            if key in parameters
        },
        entries=dict.fromkeys(_SPINNING, "0") | {k: v for k, v in parameters.items() if k.startswith("session.")},
        run_entries={key: parameters[key] for key in _RUN_ENTRIES if key in parameters},
        custom_ops=tuple(_library(spec, name) for name in config.message.model_operations.op_library_filename),
        shared=shared,
    )


def _intra_op_threads(config: ModelConfig, shared: bool) -> int:
    """The size of a session's pool.

    Each instance's own thread takes part in its run. Instances that share a session share the other threads of its
    pool, too: a run that is alone uses all cores, runs side by side divide them among themselves.
    """
    explicit = int_of(config.parameters, "intra_op_thread_count", 0)
    if explicit:
        return explicit
    return cores.available_cores() if shared else cores.threads_per_instance(config)


def _library(spec: InstanceSpec, name: str) -> str:
    """A library's path: relative to the model's directory where it is found there."""
    beside = spec.source.directory / name
    return str(beside) if beside.is_file() else name


def quiet_options(onnxruntime: Any) -> Any:
    """Fresh session options that log errors alone: warnings speak of the exporter's habits."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def apply(plan: SessionPlan, onnxruntime: Any) -> Any:
    """The plan as `onnxruntime.SessionOptions`."""
    options = quiet_options(onnxruntime)
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, plan.graph_level)
    if plan.parallel:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    if plan.global_threads:
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = plan.intra_op_threads
        options.inter_op_num_threads = plan.inter_op_threads
    for attribute, value in plan.memory.items():
        setattr(options, attribute, value)
    for key, text in plan.entries.items():
        options.add_session_config_entry(key, text)
    for library in plan.custom_ops:
        options.register_custom_ops_library(library)
    return options


def find_model(directory: Path, filename: str) -> Path:
    """The .onnx file of a version: the file named, or `model.onnx` in the directory named."""
    path = directory / (filename or "model.onnx")
    return path / "model.onnx" if path.is_dir() else path
