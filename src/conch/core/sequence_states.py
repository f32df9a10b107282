"""States of sequences: tensors that a model makes for the next request of the same sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from conch.backend_api import Output
from conch.config.schema import InitialState, ModelConfig, SequenceState
from conch.errors import InternalError, InvalidArgumentError
from conch.inference import InferRequest, RequestedOutput
from conch.tensor import DataType, Tensor

#: Input name -> the state of one sequence.
States = Mapping[str, Tensor]


class SequenceStates:
    """What a model's states are and what they start from.

    Args:
        directory: the model's, with the files that states start from in `initial_state/`.

    Raises:
        InternalError: a file cannot be read.
        InvalidArgumentError: it does not have the state's size.
    """

    def __init__(self, config: ModelConfig, directory: Path) -> None:
        self._specs = config.sequence_batching.states if config.sequence_batching is not None else ()
        self._batches = config.max_batch_size > 0
        self.initial: States = {spec.input_name: self._first(spec, directory) for spec in self._specs}

    def into(self, request: InferRequest, states: States) -> InferRequest:
        """The request with a sequence's states among its inputs, and asking for the next ones."""
        if not self._specs:
            return request
        outputs = request.outputs
        if outputs:
            asked = {output.name for output in outputs}
            missing = (spec.output_name for spec in self._specs if spec.output_name not in asked)
            outputs = (*outputs, *map(RequestedOutput, missing))
        return msgspec.structs.replace(request, inputs=(*request.inputs, *states.values()), outputs=outputs)

    def after(self, states: States, output: Output) -> States:
        """A sequence's states once the model has answered; one that it did not make stays as it was."""
        if not self._specs:
            return states
        made = {tensor.name: tensor for tensor in output.tensors}
        return {
            spec.input_name: (
                msgspec.structs.replace(made[spec.output_name], name=spec.input_name)
                if spec.output_name in made
                else states[spec.input_name]
            )
            for spec in self._specs
        }

    def _first(self, spec: SequenceState, directory: Path) -> Tensor:
        initial = spec.initial_state
        dims = initial.dims if initial is not None else tuple(1 if dim == -1 else dim for dim in spec.dims)
        shape = (1, *dims) if self._batches else dims
        if initial is None or not initial.data_file:
            return zeros(spec.input_name, spec.data_type, shape)
        return Tensor(spec.input_name, spec.data_type, shape, _read(initial, shape, directory))


def zeros(name: str, datatype: DataType, shape: tuple[int, ...]) -> Tensor:
    """A tensor of zeros, or of empty strings."""
    item_bytes = 4 if datatype is DataType.BYTES else datatype.dtype.itemsize
    return Tensor(name, datatype, shape, bytes(math.prod(shape) * item_bytes))


def _read(initial: InitialState, shape: tuple[int, ...], directory: Path) -> bytes:
    path = directory / "initial_state" / initial.data_file
    if not path.resolve().is_relative_to(directory.resolve()):
        raise InvalidArgumentError(
            f"'data_file' of initial_state '{initial.name}' must be a file in the model's initial_state directory, got "
            f"'{initial.data_file}'"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InternalError(f"failed to open text file for read {path}: {error.strerror}") from error
    if initial.data_type is not DataType.BYTES:
        expected = math.prod(shape) * initial.data_type.dtype.itemsize
        if len(data) != expected:
            raise InvalidArgumentError(
                f"initial_state setting expects {expected} bytes, but the data provided from {initial.data_file} has "
                f"{len(data)} bytes."
            )
    return data
