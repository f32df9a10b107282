"""Auto-complete: what a configuration leaves out and the server fills in, from the files or from the model itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf import json_format

from conch.config import pbtxt
from conch.config.proto import ModelConfigMessage, pb
from conch.config.schema import InstanceGroup, ModelConfig, RateLimit
from conch.config.validate import BACKEND_BY_PLATFORM
from conch.errors import InvalidArgumentError, NotFoundError

logger = logging.getLogger("conch.config.complete")


class _Engine(msgspec.Struct, frozen=True):
    """A backend, the file it reads, and the platform its configurations show ("" for none)."""

    backend: str
    filename: str
    platform: str = ""


#: In the order in which files are looked for.
_ENGINES = (
    _Engine("tensorflow", "model.savedmodel", "tensorflow_savedmodel"),
    _Engine("tensorflow", "model.graphdef", "tensorflow_graphdef"),
    _Engine("tensorrt", "model.plan", "tensorrt_plan"),
    _Engine("onnxruntime", "model.onnx", "onnxruntime_onnx"),
    _Engine("openvino", "model.xml"),
    _Engine("pytorch", "model.pt", "pytorch_libtorch"),
    _Engine("pytorch", "model.pt2", "pytorch_libtorch"),
    _Engine("python", "model.py"),
)

#: Backends that run better with two instances on a CPU when nobody says how many.
_TWO_CPU_INSTANCES = frozenset({"tensorflow", "onnxruntime"})


#: How long a sequence may idle when nobody says so, in microseconds.
SEQUENCE_IDLE_US = 1_000_000


class PlacedInstance(msgspec.Struct, frozen=True):
    """One instance to start: its name, "CPU", "GPU" or "MODEL", and the GPU's number (0 elsewhere)."""

    name: str
    kind: str
    device_id: int
    rate_limit: RateLimit = RateLimit()


def load_config(directory: Path, config_name: str = "", optional: bool = True) -> ModelConfigMessage:
    """The configuration a model's directory holds: `configs/<config_name>.pbtxt` where it exists, else config.pbtxt.

    A directory without either gives an empty message, which `normalize` completes, where it is optional.

    Raises:
        NotFoundError: the directory does not exist.
        InvalidArgumentError: the file cannot be read or parsed; the text names file, line and field.
    """
    if not directory.is_dir():
        raise NotFoundError(f"model directory '{directory}' does not exist")
    candidates = [directory / "configs" / f"{config_name}.pbtxt"] if config_name else []
    for path in (*candidates, directory / "config.pbtxt"):
        if path.is_file():
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidArgumentError(f"failed to open text file for read {path}: {error}") from error
            return pbtxt.parse(text, str(path))
    if not optional:
        raise InvalidArgumentError(
            f"failed to open text file for read {directory / 'config.pbtxt'}: No such file or directory (needed with "
            "--disable-auto-complete-config)"
        )
    return pb.ModelConfig()


def normalize(message: ModelConfigMessage, directory: Path, gpu_count: int = 0) -> ModelConfigMessage:
    """A copy with everything filled in that the server can know without running the model.

    Name from the directory; backend, platform and default_model_filename from each other or from the files of the first
    version; version policy latest 1; preferred batch size; instance groups with name, kind (KIND_AUTO decided by
    `gpu_count`), count and GPUs.

    Raises:
        InvalidArgumentError: nothing says which backend runs the model.
    """
    filled = pb.ModelConfig()
    filled.CopyFrom(message)
    if not filled.name:
        filled.name = directory.name
    _fill_backend(filled, directory)
    if not filled.HasField("version_policy"):
        filled.version_policy.latest.num_versions = 1
    _fill_batching(filled)
    if filled.HasField("ensemble_scheduling"):
        filled.model_transaction_policy.SetInParent()  # Triton shows it of ensembles whether it was written or not
    else:
        for side in ("input_pinned_memory", "output_pinned_memory"):
            if not filled.optimization.HasField(side):
                getattr(filled.optimization, side).enable = True
        _fill_instance_groups(filled, gpu_count)
    return filled


def _fill_backend(message: ModelConfigMessage, directory: Path) -> None:
    if message.platform == "ensemble" or message.HasField("ensemble_scheduling"):
        return
    if not message.backend:
        engine = _deduce_engine(message, directory)
        if engine is None:
            if message.platform or message.default_model_filename:
                return
            expected = ", ".join(f"'{engine.filename}'" for engine in reversed(_ENGINES))
            raise InvalidArgumentError(
                f"Invalid model name: Could not determine backend for model '{message.name}' with no backend in model "
                f"configuration. Set 'backend' in config.pbtxt, or give a version directory one of {expected}."
            )
        message.backend = engine.backend
        message.platform = message.platform or engine.platform
    fitting = [e for e in _ENGINES if e.backend == message.backend and message.platform in ("", e.platform)]
    if fitting:
        files = _first_version_files(directory) if len(fitting) > 1 else set()
        engine = next((each for each in fitting if each.filename in files), fitting[0])
        message.platform = message.platform or engine.platform
        message.default_model_filename = message.default_model_filename or engine.filename
        return
    if message.backend == "python" and not message.default_model_filename:
        message.default_model_filename = "model.py"


def _deduce_engine(message: ModelConfigMessage, directory: Path) -> _Engine | None:
    if message.platform:
        backend = BACKEND_BY_PLATFORM.get(message.platform)
        return next((engine for engine in _ENGINES if engine.backend == backend), None)
    if message.default_model_filename:
        return next((engine for engine in _ENGINES if engine.filename == message.default_model_filename), None)
    files = _first_version_files(directory)
    return next((engine for engine in _ENGINES if engine.filename in files), None)


def _first_version_files(directory: Path) -> set[str]:
    if not directory.is_dir():
        return set()
    versions = sorted(entry for entry in directory.iterdir() if entry.is_dir() and entry.name.isdigit())
    return {entry.name for version in versions[:1] for entry in version.iterdir()}


def _fill_batching(message: ModelConfigMessage) -> None:
    batches = message.max_batch_size > 0
    if batches and message.HasField("dynamic_batching") and not message.dynamic_batching.preferred_batch_size:
        message.dynamic_batching.preferred_batch_size.append(message.max_batch_size)
    if message.HasField("sequence_batching"):
        sequences = message.sequence_batching
        sequences.max_sequence_idle_microseconds = sequences.max_sequence_idle_microseconds or SEQUENCE_IDLE_US
        if batches and sequences.HasField("oldest") and not sequences.oldest.preferred_batch_size:
            sequences.oldest.preferred_batch_size.append(message.max_batch_size)


def _fill_instance_groups(message: ModelConfigMessage, gpu_count: int) -> None:
    if not message.instance_group:
        message.instance_group.add(name=message.name)
    for position, group in enumerate(message.instance_group):
        if not group.name:
            group.name = f"{message.name}_{position}"
        if group.kind == pb.ModelInstanceGroup.KIND_AUTO:
            present = gpu_count > 0 and all(gpu < gpu_count for gpu in group.gpus)
            group.kind = pb.ModelInstanceGroup.KIND_GPU if present else pb.ModelInstanceGroup.KIND_CPU
            if not present and group.gpus:
                logger.warning(
                    "instance group %s of model %s asks for GPUs %s, of which %d are present: it runs on the CPU",
                    group.name, message.name, list(group.gpus), gpu_count,
                )  # fmt: skip
                del group.gpus[:]
        if group.count < 1:
            on_cpu = group.kind == pb.ModelInstanceGroup.KIND_CPU
            group.count = 2 if on_cpu and message.backend in _TWO_CPU_INSTANCES else 1
        if group.kind == pb.ModelInstanceGroup.KIND_GPU and not group.gpus:
            group.gpus.extend(range(gpu_count))


def merge_auto_complete(message: ModelConfigMessage, completed: Mapping[str, Any]) -> ModelConfigMessage:
    """A copy of a configuration with what a Python model's `auto_complete_config` answered merged in.

    Args:
        message: the normalized configuration the model was shown.
        completed: `ModelConfig.as_dict()` of its answer: the configuration as JSON values, shaped as `to_dict` does.
            Batch size, inputs, outputs and transaction policy are taken over; the scheduler only where the
            configuration has none.

    Raises:
        InvalidArgumentError: the answer is no ModelConfig, or changes the scheduler.
    """
    try:
        answer = json_format.ParseDict(json.loads(json.dumps(completed)), pb.ModelConfig())
    except (json_format.ParseError, TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"auto_complete_config of model '{message.name}' returned an invalid configuration: {error}"
        ) from error
    merged = pb.ModelConfig()
    merged.CopyFrom(message)
    merged.max_batch_size = answer.max_batch_size
    for field in ("input", "output"):
        merged.ClearField(field)
        getattr(merged, field).extend(getattr(answer, field))
    before, after = (config.WhichOneof("scheduling_choice") for config in (message, answer))
    if before is None and after is not None:
        getattr(merged, after).CopyFrom(getattr(answer, after))
    elif before != after:
        raise InvalidArgumentError(
            f"auto_complete_config of model '{message.name}' must not change the scheduler: the configuration has "
            f"'{before}', the answer '{after}'"
        )
    if answer.HasField("model_transaction_policy"):
        merged.model_transaction_policy.CopyFrom(answer.model_transaction_policy)
    _fill_batching(merged)
    return merged


def resolve_instances(config: ModelConfig, gpu_count: int) -> list[PlacedInstance]:
    """The instances to start, group by group, named `<group name>_<index>` (the same name on each GPU of a group).

    A GPU group on a machine without GPUs runs on the CPU, and a warning says so. Passive groups have no instances.

    Raises:
        InvalidArgumentError: a group names a GPU that this machine with GPUs does not have.
    """
    placed: list[PlacedInstance] = []
    for group in config.instance_group:
        if group.passive:
            continue
        kind, devices = _place(group, config.name, gpu_count)
        for index in range(max(group.count, 1)):
            named = f"{group.name}_{index}"
            placed.extend(PlacedInstance(named, kind, device, group.rate_limit) for device in devices)
    return placed


def _place(group: InstanceGroup, model_name: str, gpu_count: int) -> tuple[str, tuple[int, ...]]:
    if group.kind in ("CPU", "MODEL"):
        return group.kind, (0,)
    if gpu_count == 0:
        if group.kind == "GPU":
            logger.warning(
                "instance group %s of model %s has kind KIND_GPU but no GPUs are available: it runs on the CPU",
                group.name, model_name,
            )  # fmt: skip
        return "CPU", (0,)
    missing = [gpu for gpu in group.gpus if gpu >= gpu_count]
    if missing:
        raise InvalidArgumentError(
            f"instance group {group.name} of model {model_name} specifies invalid or unsupported gpu id {missing[0]}. "
            f"GPUs of this machine are: {', '.join(str(gpu) for gpu in range(gpu_count))}"
        )
    return "GPU", group.gpus or tuple(range(gpu_count))
