"""How a model is compiled: read from the model configuration and `--backend-config`, as Triton's backend spells it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conch.backend_api import InstanceSpec
from conch.backends.cores import available_cores, competing_instances
from conch.backends.parameters import bool_of
from conch.config.schema import ModelConfig
from conch.errors import InvalidArgumentError

DEFAULT_MAX_BATCH_SIZE = 4

#: Properties of OpenVINO that `parameters` and `--backend-config` may set, by the same name.
PROPERTIES = (
    "PERFORMANCE_HINT",
    "PERFORMANCE_HINT_NUM_REQUESTS",
    "NUM_STREAMS",
    "INFERENCE_NUM_THREADS",
    "COMPILATION_NUM_THREADS",
    "CACHE_DIR",
    "INFERENCE_PRECISION_HINT",
    "EXECUTION_MODE_HINT",
    "ENABLE_CPU_PINNING",
    "ENABLE_HYPER_THREADING",
    "SCHEDULING_CORE_TYPE",
    "MODEL_DISTRIBUTION_POLICY",
    "CPU_DENORMALS_OPTIMIZATION",
    "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE",
    "KV_CACHE_PRECISION",
    "LOG_LEVEL",
)

#: Names of older releases.
_RENAMED = {"CPU_THREADS_NUM": "INFERENCE_NUM_THREADS", "CPU_THROUGHPUT_STREAMS": "NUM_STREAMS"}

#: Parameters that concern the backend and not OpenVINO.
_OWN = (
    "TARGET_DEVICE",
    "CPU_EXTENSION_PATH",
    "HINT_BF16",
    "ENFORCE_BF16",
    "SKIP_OV_DYNAMIC_BATCHSIZE",
    "ENABLE_BATCH_PADDING",
    "RESHAPE_IO_LAYERS",
)


class CompilePlan(msgspec.Struct, frozen=True):
    """Everything a model is compiled with.

    Attributes:
        device: OpenVINO's device name.
        properties: for `compile_model`.
        extension: library of custom layers; "" for none.
        reshape: whether the model's inputs get the shapes of the configuration.
        fixed_batch: the batch size the model is compiled for; 0 for any.
        pad_batch: whether smaller batches are filled up to it; else they are refused.
    """

    device: str
    properties: Mapping[str, str]
    extension: str
    reshape: bool
    fixed_batch: int
    pad_batch: bool


def plan_compile(spec: InstanceSpec) -> CompilePlan:
    """The plan for one model.

    Raises:
        InvalidArgumentError: a parameter has a value that it cannot have.
    """
    config = spec.config
    given = {**_known(spec.source.settings), **_known(config.parameters)}
    properties = {key: value for key, value in given.items() if key in PROPERTIES}
    if properties.get("PERFORMANCE_HINT", "LATENCY") not in ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT"):
        raise InvalidArgumentError(
            f"parameter 'PERFORMANCE_HINT': expected LATENCY or THROUGHPUT, got '{properties['PERFORMANCE_HINT']}'"
        )
    bf16 = bool_of(given, "HINT_BF16", False) or bool_of(given, "ENFORCE_BF16", False)
    device = given.get("TARGET_DEVICE", "CPU")
    if bf16:
        properties.setdefault("INFERENCE_PRECISION_HINT", "bf16")
    skip = bool_of(given, "SKIP_OV_DYNAMIC_BATCHSIZE", False)
    return CompilePlan(
        device=device,
        properties={**_cpu_defaults(config, properties), **properties} if device == "CPU" else properties,
        extension=given.get("CPU_EXTENSION_PATH", ""),
        reshape=bool_of(given, "RESHAPE_IO_LAYERS", False),
        fixed_batch=config.max_batch_size if skip else 0,
        pad_batch=bool_of(given, "ENABLE_BATCH_PADDING", False),
    )


def _cpu_defaults(config: ModelConfig, given: Mapping[str, str]) -> dict[str, str]:
    """What holds on a CPU unless it is given.

    All cores, one stream an instance, unless a performance hint leaves that to OpenVINO. Threads that are not tied to
    cores, since models share them. FP32, also where OpenVINO would choose BF16 by itself and answer a little
    differently.
    """
    defaults = {"INFERENCE_NUM_THREADS": str(available_cores()), "ENABLE_CPU_PINNING": "NO"}
    if "PERFORMANCE_HINT" not in given:
        defaults["NUM_STREAMS"] = str(min(competing_instances(config), available_cores()))
    if "EXECUTION_MODE_HINT" not in given:
        defaults["INFERENCE_PRECISION_HINT"] = "f32"
    return defaults


def _known(values: Mapping[str, str]) -> dict[str, str]:
    """The settings with a meaning here, in upper case and under their present names."""
    known: dict[str, str] = {}
    for key, value in values.items():
        name = _RENAMED.get(key.upper(), key.upper())
        if name in PROPERTIES or name in _OWN:
            known[name] = value.upper() if name in ("NUM_STREAMS", "PERFORMANCE_HINT") else value
    return known
