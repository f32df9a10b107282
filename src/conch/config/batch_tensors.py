"""Tensors of a whole batch (`batch_input`, `batch_output`): read into values, and checked with Triton's texts."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from conch.config.proto import ConfigPart, ModelConfigMessage, pb
from conch.config.schema import BatchInput, BatchInputKind, BatchOutput, ModelConfig, ModelInput
from conch.tensor.datatype import DATATYPE_BY_CONFIG_NAME


def batch_inputs(message: ModelConfigMessage) -> tuple[BatchInput, ...]:
    """The inputs made of a batch, of a configuration that keeps the rules."""
    return tuple(
        BatchInput(
            kind=BatchInputKind(_input_kind(entry)),
            target_name=tuple(entry.target_name),
            data_type=DATATYPE_BY_CONFIG_NAME[pb.DataType.Name(entry.data_type)],
            source_input=entry.source_input[0],
        )
        for entry in message.batch_input
    )


def batch_outputs(message: ModelConfigMessage) -> tuple[BatchOutput, ...]:
    """The outputs that are taken apart along an input, of a configuration that keeps the rules."""
    return tuple(BatchOutput(tuple(entry.target_name), entry.source_input[0]) for entry in message.batch_output)


def target_names(message: ModelConfigMessage) -> frozenset[str]:
    """Inputs of the model that no client gives."""
    return frozenset(name for entry in message.batch_input for name in entry.target_name)


def engine_inputs(config: ModelConfig) -> tuple[ModelInput, ...]:
    """All inputs of the model itself: those that requests bring, and those made of a batch (with all their dims)."""
    made = (
        ModelInput(name, entry.data_type, (-1, -1) if entry.kind is BatchInputKind.ITEM_SHAPE else (-1,))
        for entry in config.batch_input
        for name in entry.target_name
    )
    return (*config.input, *made)


def batch_tensor_problems(message: ModelConfigMessage) -> Iterator[str]:
    """Every rule that `batch_input` and `batch_output` break, in Triton's words."""
    inputs = {tensor.name: tensor for tensor in message.input}
    outputs = {tensor.name: tensor for tensor in message.output}
    taken = set(inputs)
    for entry in message.batch_input:
        yield from _source_problems("input", _input_kind(entry), entry, inputs, message.name)
        if entry.data_type == pb.TYPE_INVALID:
            yield "unexpected batch input data type 'TYPE_INVALID'"
        elif entry.data_type not in (pb.TYPE_INT32, pb.TYPE_FP32):
            yield f"batch input data type must be TYPE_INT32 or TYPE_FP32 for {message.name}"
        for name in entry.target_name:
            if name in taken:
                yield f"target input name '{name}' is the name of another input for {message.name}"
            taken.add(name)
    scattered: set[str] = set()
    for entry in message.batch_output:
        kind = pb.BatchOutput.Kind.Name(entry.kind)
        yield from _source_problems("output", kind, entry, inputs, message.name)
        for name in entry.target_name:
            if name not in outputs:
                yield f"unknown target output name '{name}' for {message.name}"
            elif name in scattered:
                yield f"target output name '{name}' can only be specified once for {message.name}"
            elif source := inputs.get(next(iter(entry.source_input), "")):
                yield from _scatter_problems(outputs[name], source, message.name)
            scattered.add(name)
        if not entry.target_name:
            yield f"batch output must specify 'target_name' for {message.name}"


def _source_problems(
    direction: str, kind: str, entry: ConfigPart, inputs: Collection[str], model: str
) -> Iterator[str]:
    if len(entry.source_input) != 1:
        yield f"batch {direction} kind '{kind}' expects 1 source input, got {len(entry.source_input)} for {model}"
    for name in entry.source_input:
        if name not in inputs:
            yield f"unknown source input name '{name}' for {model}"


def _scatter_problems(output: ConfigPart, source: ConfigPart, model: str) -> Iterator[str]:
    """Dimensions of unknown size take that of the source at the same place, so there must be one."""
    given = len(_model_dims(source))
    if any(dim == -1 for dim in _model_dims(output)[given:]):
        yield (
            f"batch output '{output.name}' has a variable dimension beyond the {given} of its source input "
            f"'{source.name}' for {model}"
        )


def _model_dims(tensor: ConfigPart) -> list[int]:
    return list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)


def _input_kind(entry: ConfigPart) -> str:
    return str(pb.BatchInput.Kind.Name(entry.kind))
