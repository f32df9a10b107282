"""The rules a model configuration must obey, checked all at once.

Each rule is a pure function of the message that yields a text for every violation, in Triton's words where Triton has
the rule too.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator

from conch.config.batch_tensors import batch_tensor_problems
from conch.config.model_metrics import metric_notes, metric_problems
from conch.config.padding import PADDING, has_effect, padding_problems
from conch.config.proto import ConfigPart, ModelConfigMessage, pb
from conch.config.schema import ModelConfig
from conch.config.sequences import sequence_problems, state_problems
from conch.config.support import Status, fields_with, support_of
from conch.errors import InvalidArgumentError

logger = logging.getLogger("conch.config.validate")

#: Platforms that only one backend can run, and the backend.
BACKEND_BY_PLATFORM = {
    "tensorflow_savedmodel": "tensorflow",
    "tensorflow_graphdef": "tensorflow",
    "tensorrt_plan": "tensorrt",
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
}

#: Backends that join the requests of a batch themselves.
FRAMEWORK_BACKENDS = frozenset({"onnxruntime", "openvino", "pytorch"})


#: The parameter that names a batching strategy of one's own.
BATCH_STRATEGY = "TRITON_BATCH_STRATEGY_PATH"


def validate(config: ModelConfig) -> None:
    """Check a complete configuration, and log one warning about the fields that have no effect.

    Raises:
        InvalidArgumentError: a rule is broken; the text names the model and lists every violation.
    """
    _refuse(config.message, violations(config.message, complete=True) + padding_problems(config))
    notes = [*ignored(config.message), *metric_notes(config.message)]
    if PADDING in config.parameters and not has_effect(config):
        notes.append(f"'parameters' {PADDING} is ignored since without 'dynamic_batching' there are no batches to pad")
    if notes:
        logger.warning("configuration of model '%s': %s", config.name, "; ".join(notes))


def check(message: ModelConfigMessage, *, complete: bool) -> None:
    """Raise InvalidArgumentError listing every violation of a rule (see `violations`)."""
    _refuse(message, violations(message, complete=complete))


def check_scheduling(message: ModelConfigMessage) -> None:
    """Raise InvalidArgumentError listing violations that make the model none at all: backend, batch size, batching.

    Triton looks at these before it tries to load the model, and at the others when it does.
    """
    _refuse(message, [text for rule in _POLLED_RULES for text in rule(message)])


def _refuse(message: ModelConfigMessage, found: list[str]) -> None:
    if len(found) == 1:
        raise InvalidArgumentError(found[0])
    if found:
        listed = " ".join(f"({number}) {text};" for number, text in enumerate(found, start=1))
        raise InvalidArgumentError(
            f"the configuration of model '{message.name}' has {len(found)} errors: {listed.rstrip(';')}"
        )


def violations(message: ModelConfigMessage, *, complete: bool) -> list[str]:
    """Every violation of a rule. `complete` False lets tensors lack `dims`, which auto-complete may add."""
    found: list[str] = []
    for rule in _RULES:
        found.extend(rule(message))
    found.extend(_tensor_rules(message, complete))
    return found


def ignored(message: ModelConfigMessage) -> list[str]:
    """What the configuration says in vain, one text a field."""
    by_note: dict[str, list[str]] = {}
    for path in fields_with(message, Status.IGNORED):
        by_note.setdefault(support_of(path).note, []).append(f"'{path}'")
    notes = [
        f"{', '.join(paths)} {'is' if len(paths) == 1 else 'are'} ignored ({note})" for note, paths in by_note.items()
    ]
    batching = message.dynamic_batching
    if message.HasField("dynamic_batching") and message.max_batch_size == 0:
        notes.append("'dynamic_batching' forms no batches since 'max_batch_size' is 0")
    if message.backend not in FRAMEWORK_BACKENDS:
        for field in ("batch_input", "batch_output"):
            if getattr(message, field):
                notes.append(
                    f"'{field}' is ignored (models of backend '{message.backend}' get the tensors of each request)"
                )
    if batching.priority_levels == 0 and (batching.default_priority_level or batching.priority_queue_policy):
        notes.append("'dynamic_batching' has priority settings that are ignored since 'priority_levels' is 0")
    return notes


def _identity(message: ModelConfigMessage) -> Iterator[str]:
    name, platform, backend = message.name, message.platform, message.backend
    if not name:
        yield "model configuration must specify 'name'"
    if platform == "ensemble":
        if backend:
            yield f"Ensemble model '{name}' must have platform type 'ensemble' and empty backend type"
        if not message.HasField("ensemble_scheduling"):
            yield f"ensemble scheduling must be set for ensemble {name} whose platform is ensemble"
    elif message.HasField("ensemble_scheduling"):
        yield f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble"
    elif not backend and platform:
        yield f"unexpected platform type '{platform}' for {name}"
    elif not backend:
        yield f"must specify 'platform' or 'backend' for '{name}'"
    elif backend in BACKEND_BY_PLATFORM.values() and BACKEND_BY_PLATFORM.get(platform) != backend:
        yield f"unexpected 'platform' and 'backend' pair, got:{platform}, {backend}"


def _ensemble(message: ModelConfigMessage) -> Iterator[str]:
    if message.HasField("ensemble_scheduling"):
        if message.instance_group:
            yield f"instance group should not be specified for ensemble '{message.name}'"
        if message.model_warmup:
            yield f"model_warmup can not be specified for ensemble '{message.name}'"


def _warm_up(message: ModelConfigMessage) -> Iterator[str]:
    for setting in message.model_warmup:
        for name, given in setting.inputs.items():
            if given.data_type == pb.TYPE_INVALID:
                yield f"warmup sample '{setting.name}' must specify 'data_type' of input '{name}' for {message.name}"


def _batch_size(message: ModelConfigMessage) -> Iterator[str]:
    if message.max_batch_size < 0:
        yield f"'max_batch_size' must be non-negative value for {message.name}, got {message.max_batch_size}"


def _dynamic_batching(message: ModelConfigMessage) -> Iterator[str]:
    batching, name = message.dynamic_batching, message.name
    sizes = batching.preferred_batch_size
    if any(size <= 0 for size in sizes):
        yield f"dynamic batching preferred size must be positive for {name}"
    if any(size > message.max_batch_size for size in sizes):
        yield f"dynamic batching preferred size must be <= max batch size for {name}"
    levels = batching.priority_levels
    if levels and not 1 <= batching.default_priority_level <= levels:
        yield f"default priority level must be in range [1, {levels}] for {name}"
    if levels and any(not 1 <= level <= levels for level in batching.priority_queue_policy):
        yield f"priority queue policy must have priority level in range [1, {levels}] for {name}"
    if batching.preserve_ordering:
        if levels > 1:
            yield f"Only one priority level is allowed when 'preserve_ordering' is true for {name}"
        policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
        if any(_delays(policy) for policy in policies):
            yield ("Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for " + name)


def _delays(policy: ConfigPart) -> bool:
    return bool(policy.default_timeout_microseconds) and policy.timeout_action == pb.ModelQueuePolicy.DELAY


def _batch_strategy(message: ModelConfigMessage) -> Iterator[str]:
    if message.HasField("dynamic_batching") and BATCH_STRATEGY in message.parameters:
        yield (
            f"parameter '{BATCH_STRATEGY}' cannot be used for {message.name}: batching strategies are shared libraries "
            "that conch does not load; without the parameter the dynamic batcher decides"
        )


def _instance_groups(message: ModelConfigMessage) -> Iterator[str]:
    for group in message.instance_group:
        kind = pb.ModelInstanceGroup.Kind.Name(group.kind)
        described = f"instance group {group.name} of model {message.name}"
        if group.gpus and kind in ("KIND_CPU", "KIND_MODEL"):
            yield f"{described} has kind {kind} but specifies one or more GPUs"
        if any(gpu < 0 for gpu in group.gpus):
            yield f"{described} specifies invalid gpu ids {list(group.gpus)}: expected device numbers from 0"
        if group.profile:
            yield (
                f"{described} and platform {message.platform} specifies profile field which is only supported for "
                "TensorRT models"
            )
    if message.instance_group and all(group.passive for group in message.instance_group):
        yield f"every instance group of model {message.name} is passive: no instance would take requests"


def _response_cache(message: ModelConfigMessage) -> Iterator[str]:
    if not message.response_cache.enable:
        return
    unfit = {
        "'decoupled' transaction policy": message.model_transaction_policy.decoupled,
        "sequence batching scheduler": message.HasField("sequence_batching"),
    }
    for what, present in unfit.items():
        if present:
            yield (
                f"Response Cache does not currently support model {message.name} with {what}. Please disable the "
                "response cache."
            )


#: Refused fields whose rule has a text of Triton's own.
_WORDED_ELSEWHERE = ("is_shape_tensor", "is_non_linear_format_io", "profile")


def _refused_fields(message: ModelConfigMessage) -> Iterator[str]:
    for path in fields_with(message, Status.REFUSED):
        if not path.endswith(_WORDED_ELSEWHERE):
            yield f"'{path}' cannot be used for {message.name}: {support_of(path).note}"


_Rule = Callable[[ModelConfigMessage], Iterator[str]]
_POLLED_RULES: tuple[_Rule, ...] = (
    _identity,
    _ensemble,
    _batch_size,
    _dynamic_batching,
    sequence_problems,
    _response_cache,
)
_RULES: tuple[_Rule, ...] = (
    *_POLLED_RULES,
    state_problems,
    batch_tensor_problems,
    metric_problems,
    _warm_up,
    _instance_groups,
    _batch_strategy,
    _refused_fields,
)


def _tensor_rules(message: ModelConfigMessage, complete: bool) -> Iterator[str]:
    for direction, tensors in (("input", message.input), ("output", message.output)):
        for tensor in tensors:
            for text in _tensor(tensor, direction, message.max_batch_size, complete):
                yield f"{text} for {message.name}"
        for name in _repeated(tensor.name for tensor in tensors):
            yield f"model {direction} '{name}' is specified more than once for {message.name}"


def _repeated(names: Iterable[str]) -> list[str]:
    listed = list(names)
    return sorted({name for name in listed if name and listed.count(name) > 1})


def _tensor(tensor: ConfigPart, direction: str, max_batch_size: int, complete: bool) -> Iterator[str]:
    described = f"model {direction} '{tensor.name}'"
    if not tensor.name:
        yield f"model {direction} must specify 'name'"
    if tensor.data_type == pb.TYPE_INVALID:
        yield f"{described} must specify 'data_type'"
    if complete and not tensor.dims:
        yield f"{described} must specify 'dims'"
    if any(dim < 1 and dim != -1 for dim in tensor.dims):
        yield f"{described} dimension must be integer >= 1, or -1 to indicate a variable-size dimension"
    if tensor.HasField("reshape"):
        yield from _reshape(described, list(tensor.dims), list(tensor.reshape.shape), max_batch_size)
    if direction == "input" and tensor.format != pb.ModelInput.FORMAT_NONE and len(tensor.dims) != 3:
        yield "model input NHWC/NCHW require 3 dims"
    if tensor.is_shape_tensor:
        yield "shape tensors are only supported for TensorRT platform"
    if tensor.is_non_linear_format_io:
        yield "Non-linear IO format is only supported for the TensorRT platform"


def _reshape(described: str, dims: list[int], shape: list[int], max_batch_size: int) -> Iterator[str]:
    if not shape and max_batch_size == 0:
        yield (f"{described} cannot have empty reshape for non-batching model as scalar tensors are not supported")
    elif any(dim < 1 and dim != -1 for dim in shape):
        yield f"{described} reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension"
    elif dims.count(-1) != shape.count(-1) and -1 in dims and -1 in shape:
        yield f"{described} has different number of variable-size dimensions for dims and reshape"
    elif _element_counts(dims) != _element_counts(shape):
        yield f"{described} has different size for dims and reshape"


def _element_counts(shape: list[int]) -> list[int]:
    """The elements between variable-size dimensions: [2, 4, -1, 6] -> [8, 6], so that [8, -1, 1, 6] matches it."""
    counts = [1]
    for dim in shape:
        if dim == -1:
            counts.append(1)
        else:
            counts[-1] = math.prod((counts[-1], dim))
    return counts
