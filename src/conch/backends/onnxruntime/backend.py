"""The backend itself: completes configurations from ONNX files, makes sessions and shares them between instances."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from conch.backend_api import Instance, InstanceSpec, ModelSource
from conch.backends.cores import competing_instances
from conch.backends.library import import_library
from conch.backends.onnxruntime.engine import OnnxEngine, describe, read_signature
from conch.backends.onnxruntime.options import (
    DEFAULT_MAX_BATCH_SIZE,
    SessionPlan,
    apply,
    find_model,
    plan_session,
    quiet_options,
)
from conch.backends.onnxruntime.providers import CUDA, TENSORRT, choose_providers
from conch.backends.parameters import int_of
from conch.backends.sharing import Shared
from conch.backends.signature import Signature, check, complete, is_complete
from conch.backends.threaded import ThreadedInstance
from conch.config.schema import ModelConfig
from conch.errors import ConchError, InternalError, UnavailableError

logger = logging.getLogger(__name__)


class _Loaded(msgspec.Struct, frozen=True):
    """A session and what it was made from. Holding the configuration keeps its identity, which is part of the key."""

    session: Any
    plan: SessionPlan
    config: ModelConfig


class OnnxRuntimeBackend:
    """Runs ONNX models. Instances of one model on the CPU share one session: its weights are in memory once."""

    def __init__(self) -> None:
        self._shared: Shared[_Loaded] = Shared()
        self._global_pool = threading.Lock()
        self._global_pool_made = False

    async def complete_config(self, source: ModelSource, config: ModelConfig) -> ModelConfig:
        """The configuration with what it lacks read from the ONNX file; a complete one is returned as it is."""
        if is_complete(config):
            return config
        default = int_of(source.settings, "default-max-batch-size", DEFAULT_MAX_BATCH_SIZE)
        path = find_model(source.version_directory, config.default_model_filename)
        signature = await asyncio.to_thread(_read_file, path, source.name)
        return complete(config, signature, default)

    async def load(self, spec: InstanceSpec) -> Instance:
        """Start a thread that loads the model, or joins the session of its siblings."""
        instance = ThreadedInstance(spec, lambda: self._open(spec))
        await instance.start()
        return instance

    def _open(self, spec: InstanceSpec) -> OnnxEngine:
        onnxruntime = import_library("onnxruntime", "onnxruntime")
        path = find_model(spec.source.version_directory, spec.config.default_model_filename)
        providers = choose_providers(spec.config, spec.kind, spec.device_id, onnxruntime.get_available_providers())
        plan = plan_session(spec, path, providers)
        key = (id(spec.config), spec.source.version, spec.kind, spec.device_id, None if plan.shared else spec.name)
        loaded = self._shared.acquire(key, lambda: self._load(onnxruntime, spec, plan))
        try:
            run_options = onnxruntime.RunOptions()
            for name, value in plan.run_entries.items():
                run_options.add_run_config_entry(name, value)
            on_gpu = not {CUDA, TENSORRT}.isdisjoint(loaded.session.get_providers())
            device = ("cuda", spec.device_id) if on_gpu else ("cpu", 0)
            release = partial(self._shared.release, key)
            return OnnxEngine(onnxruntime, loaded.session, spec.config, run_options, device, release)
        except BaseException:
            self._shared.release(key)
            raise

    def _load(self, onnxruntime: Any, spec: InstanceSpec, plan: SessionPlan) -> _Loaded:
        if plan.global_threads:
            self._make_global_pool(onnxruntime, spec.source.settings)
        session = _make_session(onnxruntime, plan.path, spec.name, lambda: apply(plan, onnxruntime), plan.providers)
        check(spec.config, read_signature(session))
        if plan.on_gpu and plan.providers[0][0] not in session.get_providers():
            logger.warning(
                "model '%s' does not run on the GPU: onnxruntime could not start %s (its log says why; often a library "
                "of CUDA or cuDNN is missing)", spec.config.name, plan.providers[0][0],
            )  # fmt: skip
        logger.info("%s", _summary(onnxruntime.__version__, spec, plan, session.get_providers()))
        return _Loaded(session, plan, spec.config)

    def _make_global_pool(self, onnxruntime: Any, settings: Mapping[str, str]) -> None:
        """Set the sizes of the process's thread pools, before the first session of the process is made."""
        with self._global_pool:
            if not self._global_pool_made:
                sizes = [int_of(settings, key, 0) for key in ("intra_op_thread_count", "inter_op_thread_count")]
                onnxruntime.set_global_thread_pool_sizes(*sizes)
                self._global_pool_made = True


def _read_file(path: Path, model_name: str) -> Signature:
    """What an ONNX file says of its tensors; nothing is optimized and nothing runs."""
    onnxruntime = import_library("onnxruntime", "onnxruntime")

    def options() -> Any:
        plain = quiet_options(onnxruntime)
        plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        plain.intra_op_num_threads = 1
        return plain

    return read_signature(_make_session(onnxruntime, path, model_name, options, (("CPUExecutionProvider", {}),)))


def _make_session(onnxruntime: Any, path: Path, name: str, options: Any, providers: Any) -> Any:
    """A session over a file.

    Raises:
        UnavailableError: there is no such file.
        InternalError: onnxruntime cannot load it; the text says why.
    """
    if not path.is_file():
        raise UnavailableError(f"unable to find '{path}' for model instance '{name}'")
    try:
        return onnxruntime.InferenceSession(str(path), options(), providers=list(providers))
    except ConchError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise InternalError(f"{describe(error)} (model file '{path}')") from error


def _summary(version: str, spec: InstanceSpec, plan: SessionPlan, providers: list[str]) -> str:
    """One line for the log: what runs the model, where, with how many threads."""
    instances = competing_instances(spec.config) if plan.shared else 1
    if plan.global_threads:
        threads = "the threads of the process's global pool"
    else:
        threads = f"{plan.intra_op_threads} {'thread' if plan.intra_op_threads == 1 else 'threads'}"
    if instances > 1:
        layout = f"{instances} instances that share a session and its {threads}"
    else:
        layout = f"1 instance x {threads}"
    return (
        f"model '{spec.config.name}' version {spec.source.version}: onnxruntime {version}, {', '.join(providers)}, "
        f"{layout}"
    )
