"""Execution providers of a session: what the configuration asks for against what the installed package has."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from conch.config.proto import ConfigPart
from conch.config.schema import ModelConfig
from conch.errors import InvalidArgumentError, UnsupportedError

logger = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"

#: A provider and its options.
Provider = tuple[str, Mapping[str, str]]

#: Options of the "tensorrt" accelerator that Triton spells in its own way; `trt_...` options keep their names.
_TENSORRT_OPTIONS = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
_TENSORRT_PRECISIONS = {"FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable"}

#: CUDA options that `parameters` of the model may hold by number, and what the numbers mean.
_CUDA_CHOICES = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
}
_CUDA_VALUES = ("gpu_mem_limit", "do_copy_in_default_stream")


def choose_providers(config: ModelConfig, kind: str, device_id: int, available: Collection[str]) -> list[Provider]:
    """The providers of a session in order of preference; the last one is always the CPU's.

    Args:
        kind: "GPU" for an instance on a GPU; others run on the CPU.
        available: what `onnxruntime.get_available_providers()` says.

    Raises:
        InvalidArgumentError: an accelerator or an option of it is unknown.
        UnsupportedError: the accelerator is not part of the installed onnxruntime.
    """
    accelerators = config.message.optimization.execution_accelerators
    providers: list[Provider] = []
    if kind == "GPU":
        cuda: dict[str, str] = _cuda_parameters(config.parameters)
        for accelerator in accelerators.gpu_execution_accelerator:
            if accelerator.name == "tensorrt":
                _require(TENSORRT, "tensorrt", "onnxruntime-gpu and TensorRT", available)
                providers.append((TENSORRT, {**_tensorrt_options(accelerator), "device_id": str(device_id)}))
            elif accelerator.name == "cuda":
                cuda.update(accelerator.parameters)
            else:
                raise InvalidArgumentError(f"unknown Execution Accelerator '{accelerator.name}' is requested")
        if CUDA in available:
            providers.append((CUDA, {**cuda, "device_id": str(device_id)}))
        else:
            logger.warning(
                "model '%s' runs on the CPU: its instance is of KIND_GPU, but the installed onnxruntime has no %s (it "
                "has %s); try: pip uninstall onnxruntime && pip install onnxruntime-gpu",
                config.name, CUDA, ", ".join(available),
            )  # fmt: skip
    for accelerator in accelerators.cpu_execution_accelerator:
        if accelerator.name != "openvino":
            raise InvalidArgumentError(f"unknown Execution Accelerator '{accelerator.name}' is requested")
        _require(OPENVINO, "openvino", "onnxruntime-openvino", available)
        providers.append((OPENVINO, {"device_type": "CPU", **accelerator.parameters}))
    return [*providers, (CPU, {})]


def _require(provider: str, name: str, package: str, available: Collection[str]) -> None:
    if provider not in available:
        raise UnsupportedError(
            f"Execution Accelerator '{name}' is requested, but the installed onnxruntime has no {provider} (it has "
            f"{', '.join(available)}); install {package}, or take the accelerator out of the configuration"
        )


def _tensorrt_options(accelerator: ConfigPart) -> dict[str, str]:
    options: dict[str, str] = {}
    for key, value in accelerator.parameters.items():
        if key == "precision_mode":
            if value in _TENSORRT_PRECISIONS:
                options[_TENSORRT_PRECISIONS[value]] = "1"
            elif value != "FP32":
                raise InvalidArgumentError(f"unsupported precision mode '{value}' is requested")
        elif key in _TENSORRT_OPTIONS:
            options[_TENSORRT_OPTIONS[key]] = value
        elif key.startswith("trt_"):
            options[key] = value
        else:
            raise InvalidArgumentError(
                f"unknown parameter '{key}' is provided for TensorRT Execution Accelerator; expected precision_mode, "
                f"{', '.join(_TENSORRT_OPTIONS)} or trt_..."
            )
    return options


def _cuda_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    options = {key: parameters[key] for key in _CUDA_VALUES if key in parameters}
    for key, choices in _CUDA_CHOICES.items():
        number = parameters.get(key)
        if number is None:
            continue
        if number not in map(str, range(len(choices))):
            raise InvalidArgumentError(
                f"unsupported {key} value '{number}' is requested; expected a number from 0 ({choices[0]}) to "
                f"{len(choices) - 1} ({choices[-1]})"
            )
        options[key] = choices[int(number)]
    return options
