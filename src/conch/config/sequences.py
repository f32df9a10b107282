"""Sequence batching as protobuf has it: read into frozen values, and checked with Triton's texts."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from conch.config.proto import ConfigPart, ModelConfigMessage, pb
from conch.config.schema import (
    DirectSequences,
    InitialState,
    ModelConfig,
    ModelInput,
    ModelOutput,
    OldestSequences,
    SequenceBatching,
    SequenceControl,
    SequenceState,
)
from conch.tensor import DataType
from conch.tensor.datatype import DATATYPE_BY_CONFIG_NAME

_KIND_PREFIX = "CONTROL_SEQUENCE_"
_FALSE_TRUE = {
    "int32_false_true": DataType.INT32,
    "fp32_false_true": DataType.FP32,
    "bool_false_true": DataType.BOOL,
}
_CORRID_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


def sequence_batching(message: ModelConfigMessage) -> SequenceBatching:
    """The settings of a configuration that has them and keeps the rules."""
    batching = message.sequence_batching
    strategy: DirectSequences | OldestSequences
    if batching.HasField("oldest"):
        oldest = batching.oldest
        strategy = OldestSequences(
            max_candidate_sequences=oldest.max_candidate_sequences,
            preferred_batch_size=tuple(oldest.preferred_batch_size),
            max_queue_delay_microseconds=oldest.max_queue_delay_microseconds,
            preserve_ordering=oldest.preserve_ordering,
        )
    else:
        direct = batching.direct
        strategy = DirectSequences(direct.max_queue_delay_microseconds, direct.minimum_slot_utilization)
    return SequenceBatching(
        strategy=strategy,
        max_sequence_idle_microseconds=batching.max_sequence_idle_microseconds,
        controls=tuple(
            _control(tensor.name, control) for tensor in batching.control_input for control in tensor.control
        ),
        states=tuple(map(_state, batching.state)),
        iterative_sequence=batching.iterative_sequence,
    )


def _control(name: str, control: ConfigPart) -> SequenceControl:
    kind = _kind_name(control).removeprefix(_KIND_PREFIX)
    if kind == "CORRID":
        return SequenceControl(name, kind, _datatype(control))
    field = next(field for field in _FALSE_TRUE if getattr(control, field))
    false, true = getattr(control, field)
    return SequenceControl(name, kind, _FALSE_TRUE[field], (float(false), float(true)))


def _state(state: ConfigPart) -> SequenceState:
    initial = None
    if state.initial_state:
        first = state.initial_state[0]
        initial = InitialState(first.name, _datatype(first), tuple(first.dims), first.data_file)
    return SequenceState(state.input_name, state.output_name, _datatype(state), tuple(state.dims), initial)


def _datatype(part: ConfigPart) -> DataType:
    return DATATYPE_BY_CONFIG_NAME[pb.DataType.Name(part.data_type)]


def _kind_name(control: ConfigPart) -> str:
    return str(pb.ModelSequenceBatching.Control.Kind.Name(control.kind))


def tensor_names(message: ModelConfigMessage) -> frozenset[str]:
    """Tensors of the model that are neither inputs nor outputs to its clients: controls and states."""
    batching = message.sequence_batching
    names = {control.name for control in batching.control_input}
    for state in batching.state:
        names |= {state.input_name, state.output_name}
    return frozenset(names)


def with_sequence_tensors(config: ModelConfig) -> ModelConfig:
    """The configuration as a backend executes it: controls and states are inputs and outputs like others."""
    batching = config.sequence_batching
    if batching is None or not (batching.controls or batching.states):
        return config
    inputs = [ModelInput(control.name, control.data_type, (1,)) for control in batching.controls]
    inputs += [ModelInput(state.input_name, state.data_type, state.dims) for state in batching.states]
    known = {output.name for output in config.output}
    outputs = [
        ModelOutput(state.output_name, state.data_type, state.dims)
        for state in batching.states
        if state.output_name not in known
    ]
    return msgspec.structs.replace(config, input=(*config.input, *inputs), output=(*config.output, *outputs))


def sequence_problems(message: ModelConfigMessage) -> Iterator[str]:
    """Every rule that the strategy or the controls of a configuration break."""
    if message.HasField("sequence_batching"):
        for text in (*_strategy_problems(message), *_control_problems(message)):
            yield f"{text} for {message.name}"
        yield from _correlation_problems(message)


def _strategy_problems(message: ModelConfigMessage) -> Iterator[str]:
    batching = message.sequence_batching
    if batching.HasField("oldest"):
        oldest = batching.oldest
        if any(size <= 0 for size in oldest.preferred_batch_size):
            yield "sequence batching preferred batch size must be positive"
        if any(size > message.max_batch_size for size in oldest.preferred_batch_size):
            yield "sequence batching preferred batch size must be <= max batch size"
        if oldest.max_candidate_sequences < 1:
            yield (
                "sequence batching needs max_candidate_sequences >= 1 to have a place for a sequence, got "
                f"{oldest.max_candidate_sequences},"
            )
    if not 0.0 <= batching.direct.minimum_slot_utilization <= 1.0:
        yield "sequence batching minimum slot utilization must be in range (0.0, 1.0]"


def _control_problems(message: ModelConfigMessage) -> Iterator[str]:
    seen: list[str] = []
    names: list[str] = []
    taken = {tensor.name for tensor in message.input}
    for tensor in message.sequence_batching.control_input:
        if not tensor.name:
            yield "sequence batching control tensor must have a name"
        if tensor.name in names or len(tensor.control) > 1:
            yield f"sequence batching control tensor '{tensor.name}' is specified for multiple control kinds"
        if not tensor.control:
            yield f"sequence batching control tensor '{tensor.name}' must specify 'control'"
        if tensor.name in taken:
            yield f"sequence batching control tensor '{tensor.name}' must not be an input of the model as well"
        names.append(tensor.name)
        for control in tensor.control:
            kind = _kind_name(control)
            if kind in seen:
                yield f"sequence batching specifies multiple {kind} tensors"
            seen.append(kind)
            yield from _value_problems(control, kind)


def _value_problems(control: ConfigPart, kind: str) -> Iterator[str]:
    given = [field for field in _FALSE_TRUE if getattr(control, field)]
    choices = "'int32_false_true', 'fp32_false_true'"
    if kind == f"{_KIND_PREFIX}CORRID":
        if given:
            yield f"sequence batching must not specify either {choices} or 'bool_false_true' for {kind}"
        return
    if not given:
        yield f"sequence batching must specify either {choices} or 'bool_false_true' for {kind}"
    elif len(given) > 1:
        yield f"sequence batching specifies more than one from {choices} and 'bool_false_true' for {kind}"
    elif len(getattr(control, given[0])) != 2:
        yield f"sequence batching control '{given[0]}' must have exactly 2 entries for {kind}"


def _correlation_problems(message: ModelConfigMessage) -> Iterator[str]:
    for tensor in message.sequence_batching.control_input:
        for control in tensor.control:
            kind, datatype = _kind_name(control), pb.DataType.Name(control.data_type)
            if kind == f"{_KIND_PREFIX}CORRID" and datatype not in _CORRID_TYPES:
                yield (
                    f"unexpected data type for control {kind} for {message.name}. Allowed data types are "
                    f"{', '.join(_CORRID_TYPES[:-1])} and {_CORRID_TYPES[-1]}"
                )


def state_problems(message: ModelConfigMessage) -> Iterator[str]:
    """Every rule that the states of a configuration break."""
    taken = {tensor.name for tensor in message.input}
    taken |= {control.name for control in message.sequence_batching.control_input}
    outputs: set[str] = set()
    for state in message.sequence_batching.state:
        described = f"sequence batching state '{state.input_name}'"
        if not state.input_name or not state.output_name:
            yield f"{described} must specify 'input_name' and 'output_name'"
        if state.input_name in taken or state.output_name in outputs:
            yield f"{described} must have names of its own: '{state.input_name}' or '{state.output_name}' is taken"
        taken.add(state.input_name)
        outputs.add(state.output_name)
        if state.data_type == pb.TYPE_INVALID or not state.dims:
            yield f"{described} must specify 'data_type' and 'dims'"
        if len(state.initial_state) > 1:
            yield f"{described} must have one 'initial_state', got {len(state.initial_state)}"
        for initial in state.initial_state[:1]:
            yield from _initial_state_problems(state, initial)


def _initial_state_problems(state: ConfigPart, initial: ConfigPart) -> Iterator[str]:
    described = f"'initial_state' of state '{state.input_name}'"
    if initial.WhichOneof("state_data") is None:
        yield f"{described} must specify 'zero_data' or 'data_file'"
    if initial.data_type != state.data_type:
        yield (
            f"The data type used for 'initial_state' field of state '{state.input_name}' does not match the state data "
            "type."
        )
    if len(initial.dims) != len(state.dims):
        yield (
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state input "
            f"'{state.input_name}'. {len(initial.dims)} != {len(state.dims)}"
        )
        return
    for given, expected in zip(initial.dims, state.dims, strict=True):
        if given < 1:
            yield f"{described} must have dims of a definite size, got {list(initial.dims)}"
        elif expected not in (-1, given):
            yield (
                f"'initial_state' dim for input name '{state.input_name}' doesn't match 'state' dim description. "
                f"{given} != {expected}"
            )
