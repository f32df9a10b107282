"""The backend itself: loads programs, a copy for each instance unless they share weights."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import msgspec

from conch.backend_api import Instance, InstanceSpec, ModelSource
from conch.backends.cores import competing_instances
from conch.backends.library import import_library
from conch.backends.parameters import int_of
from conch.backends.pytorch.engine import TorchEngine
from conch.backends.pytorch.options import RunPlan, plan_run
from conch.backends.pytorch.program import Program, find_model, load_program
from conch.backends.sharing import Shared
from conch.backends.signature import Signature, check, complete, is_complete
from conch.backends.threaded import ThreadedInstance
from conch.config.batch_tensors import engine_inputs
from conch.config.schema import ModelConfig
from conch.errors import InvalidArgumentError

logger = logging.getLogger(__name__)

DEFAULT_MAX_BATCH_SIZE = 4


class _Loaded(msgspec.Struct, frozen=True):
    """A program. Holding the configuration keeps its identity, which is part of the key."""

    program: Program
    config: ModelConfig


class PyTorchBackend:
    """Runs TorchScript and torch.export files."""

    def __init__(self) -> None:
        self._shared: Shared[_Loaded] = Shared()

    async def complete_config(self, source: ModelSource, config: ModelConfig) -> ModelConfig:
        """The configuration with what it lacks read from a torch.export file; TorchScript files do not tell.

        Raises:
            InvalidArgumentError: inputs or outputs are missing and the file does not tell them.
        """
        if is_complete(config):
            return config
        default = int_of(source.settings, "default-max-batch-size", DEFAULT_MAX_BATCH_SIZE)
        signature = await asyncio.to_thread(_read_file, source, config)
        if signature is None:
            raise InvalidArgumentError(
                f"unable to autofill for '{config.name}': a TorchScript file does not tell the datatypes and shapes of "
                "its inputs and outputs; specify 'input' and 'output' in the model configuration"
            )
        return complete(config, signature, default)

    async def load(self, spec: InstanceSpec) -> Instance:
        """Start a thread that loads the model."""
        instance = ThreadedInstance(spec, lambda: self._open(spec))
        await instance.start()
        return instance

    def _open(self, spec: InstanceSpec) -> TorchEngine:
        torch = import_library("torch", "pytorch")
        plan = plan_run(spec.config, _device(torch, spec))
        _apply(torch, plan)
        key = (id(spec.config), spec.source.version, plan.device, None if plan.share_weights else spec.name)
        loaded = self._shared.acquire(key, lambda: _load(torch, spec, plan))
        try:
            return TorchEngine(torch, loaded.program, spec.config, plan, partial(self._shared.release, key))
        except BaseException:
            self._shared.release(key)
            raise


def _device(torch: Any, spec: InstanceSpec) -> str:
    if spec.kind != "GPU":
        return "cpu"
    if torch.cuda.is_available():
        return f"cuda:{spec.device_id}"
    logger.warning(
        "instance '%s' runs on the CPU: it is of KIND_GPU, but the installed torch %s cannot use CUDA; install a CUDA "
        "build of torch", spec.name, torch.__version__,
    )  # fmt: skip
    return "cpu"


def _apply(torch: Any, plan: RunPlan) -> None:
    """Settings of PyTorch that belong to the calling thread, or to the whole process."""
    torch.set_num_threads(plan.intra_op_threads)  # of this thread; threads to come inherit it
    if plan.inter_op_threads and torch.get_num_interop_threads() != plan.inter_op_threads:
        try:
            torch.set_num_interop_threads(plan.inter_op_threads)
        except RuntimeError:
            logger.warning(
                "INTER_OP_THREAD_COUNT %d has no effect: the process runs with %d already",
                plan.inter_op_threads, torch.get_num_interop_threads(),
            )  # fmt: skip
    for value, setter in (
        (plan.jit_profiling, "_jit_set_profiling_mode"),
        (plan.jit_executor, "_jit_set_profiling_executor"),
        (plan.tensor_fuser, "_jit_set_texpr_fuser_enabled"),
    ):
        if value is not None:
            getattr(torch._C, setter)(value)
    if plan.nvfuser:
        logger.warning("ENABLE_NVFUSER has no effect: PyTorch has no NvFuser since 2.2")
    if not plan.cudnn:
        torch.backends.cudnn.enabled = False


def _load(torch: Any, spec: InstanceSpec, plan: RunPlan) -> _Loaded:
    config = spec.config
    path = find_model(spec.source.version_directory, config.default_model_filename)
    program = load_program(torch, path, [each.name for each in engine_inputs(config)], plan.device)
    if program.signature is not None and _same_names(config, program.signature):
        check(config, program.signature)
    instances = competing_instances(config)
    logger.info(
        "model '%s' version %d: torch %s (%s) on %s, %d %s x %d thread(s)",
        config.name, spec.source.version, torch.__version__, program.kind, plan.device, instances,
        "instance" if instances == 1 else "instances", plan.intra_op_threads,
    )  # fmt: skip
    return _Loaded(program, config)


def _same_names(config: ModelConfig, signature: Signature) -> bool:
    """Whether the configuration calls the tensors as the file does, and not by number or order."""
    inputs, outputs = ({tensor.name for tensor in side} for side in (signature.inputs, signature.outputs))
    return inputs == {spec.name for spec in engine_inputs(config)} and {spec.name for spec in config.output} <= outputs


def _read_file(source: ModelSource, config: ModelConfig) -> Signature | None:
    torch = import_library("torch", "pytorch")
    path = find_model(source.version_directory, config.default_model_filename)
    return load_program(torch, path, [each.name for each in engine_inputs(config)], "cpu").signature
