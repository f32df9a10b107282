"""How a model runs: read from the model configuration, as Triton's backend spells it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conch.backends.cores import threads_per_instance
from conch.backends.parameters import bool_of, int_of
from conch.config.schema import ModelConfig


class RunPlan(msgspec.Struct, frozen=True):
    """Everything a model runs with. None: PyTorch's own default.

    Attributes:
        device: "cpu" or "cuda:<number>".
        optimized: whether TorchScript is optimized at its first runs.
        inference_mode: `torch.inference_mode`; else `torch.no_grad`.
        share_weights: whether instances on one device use one copy of the model.
        intra_op_threads: threads that share the work of an operator.
        inter_op_threads: threads for TorchScript's fork and wait; for the whole process, the first model decides.
    """

    device: str
    optimized: bool
    inference_mode: bool
    share_weights: bool
    clean_cache: bool
    cudnn: bool
    intra_op_threads: int
    inter_op_threads: int
    jit_profiling: bool | None
    jit_executor: bool | None
    tensor_fuser: bool | None
    nvfuser: bool | None


def plan_run(config: ModelConfig, device: str) -> RunPlan:
    """The plan of a model on a device.

    Raises:
        InvalidArgumentError: a parameter has a value that it cannot have.
    """
    parameters = config.parameters
    return RunPlan(
        device=device,
        optimized=not bool_of(parameters, "DISABLE_OPTIMIZED_EXECUTION", False),
        inference_mode=bool_of(parameters, "INFERENCE_MODE", True),
        share_weights=bool_of(parameters, "ENABLE_WEIGHT_SHARING", False),
        clean_cache=bool_of(parameters, "ENABLE_CACHE_CLEANING", False),
        cudnn=not bool_of(parameters, "DISABLE_CUDNN", False),
        intra_op_threads=int_of(parameters, "INTRA_OP_THREAD_COUNT", 0) or threads_per_instance(config),
        inter_op_threads=int_of(parameters, "INTER_OP_THREAD_COUNT", 0),
        jit_profiling=_switch(parameters, "ENABLE_JIT_PROFILING"),
        jit_executor=_switch(parameters, "ENABLE_JIT_EXECUTOR"),
        tensor_fuser=_switch(parameters, "ENABLE_TENSOR_FUSER"),
        nvfuser=_switch(parameters, "ENABLE_NVFUSER"),
    )


def _switch(parameters: Mapping[str, str], key: str) -> bool | None:
    return bool_of(parameters, key, True) if key in parameters else None
