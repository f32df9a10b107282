"""A raw binary request: the whole body is the data of the model's only input, whose shape has to be deduced."""

from __future__ import annotations

import math
import struct

from conch.config.schema import ModelConfig
from conch.errors import InvalidArgumentError
from conch.inference import request_prefix
from conch.tensor import DataType, Tensor
from conch.tensor.tensor import Buffer


def raw_tensor(config: ModelConfig, body: Buffer) -> Tensor:
    """The only input with a batch of one, its one variable dimension taken from the size of the body.

    A BYTES input must have shape [1]; the body is its single element, without a length in front.

    Raises:
        InvalidArgumentError: the model has several inputs or variable dimensions, or the size does not fit.
    """
    prefix = request_prefix("")
    if len(config.input) != 1:
        raise InvalidArgumentError(
            f"{prefix}Raw request must only have 1 input (found 1) to be deduced but got {len(config.input)} inputs in "
            f"'{config.name}' model configuration"
        )
    spec = config.input[0]
    batch = (1,) if config.max_batch_size > 0 else ()
    if spec.data_type is DataType.BYTES:
        if spec.dims != (1,):
            raise InvalidArgumentError(
                f"{prefix}For BYTE datatype raw input '{spec.name}', the model must have input shape [1]"
            )
        return Tensor(spec.name, spec.data_type, (*batch, 1), struct.pack("<I", len(body)) + bytes(body))
    if spec.dims.count(-1) > 1:
        raise InvalidArgumentError(
            f"{prefix}The shape of the raw input '{spec.name}' can not be deduced because there are more than one "
            "variable-sized dimension"
        )
    fixed_bytes = math.prod(size for size in spec.dims if size != -1) * spec.data_type.item_bytes
    variable = len(body) // fixed_bytes if fixed_bytes else 0
    shape = batch + tuple(variable if size == -1 else size for size in spec.dims)
    expected = math.prod(shape) * spec.data_type.item_bytes
    if expected != len(body):
        raise InvalidArgumentError(
            f"{prefix}input byte size mismatch for input 'raw_input' for model '{config.name}'. Expected {expected}, "
            f"got {len(body)}"
        )
    return Tensor(spec.name, spec.data_type, shape, memoryview(body))
