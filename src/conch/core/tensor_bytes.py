"""The check that a tensor's bytes are those of its datatype and shape, with Triton's texts."""

from __future__ import annotations

import math
import struct

from conch.errors import InvalidArgumentError
from conch.inference import request_prefix
from conch.tensor import DataType, Tensor

_length_at = struct.Struct("<I").unpack_from


def check_tensor_bytes(tensor: Tensor, model_name: str, request_id: str) -> None:
    """Check that `tensor.data` holds exactly the elements of its shape.

    Raises:
        InvalidArgumentError: too few or too many bytes, or BYTES elements that do not add up.
    """
    if tensor.datatype is DataType.BYTES:
        _check_elements(tensor, model_name, request_id)
        return
    expected = math.prod(tensor.shape) * tensor.datatype.item_bytes
    if expected != len(tensor.data):
        raise InvalidArgumentError(
            f"{request_prefix(request_id)}input byte size mismatch for input '{tensor.name}' for model "
            f"'{model_name}'. Expected {expected}, got {len(tensor.data)}"
        )


def _check_elements(tensor: Tensor, model_name: str, request_id: str) -> None:
    data, end = tensor.data, len(tensor.data)
    expected = math.prod(tensor.shape)
    offset = count = 0
    while offset < end:
        if count >= expected:
            raise InvalidArgumentError(
                f"{request_prefix(request_id)}unexpected number of string elements {count + 1} for inference input "
                f"'{tensor.name}' for model '{model_name}', expecting {expected}"
            )
        if end - offset < 4:
            raise InvalidArgumentError(
                f"{request_prefix(request_id)}incomplete string length indicator for inference input '{tensor.name}' "
                f"for model '{model_name}', expecting 4 bytes but only {end - offset} bytes available. Please make "
                "sure the string length indicator is in one buffer."
            )
        (size,) = _length_at(data, offset)
        offset += 4
        if end - offset < size:
            raise InvalidArgumentError(
                f"incomplete string data for inference input '{tensor.name}', expecting string of length {size} but "
                f"only {end - offset} bytes available"
            )
        offset += size
        count += 1
    if count != expected:
        raise InvalidArgumentError(
            f"{request_prefix(request_id)}expected {expected} string elements for inference input '{tensor.name}' "
            f"for model '{model_name}', got {count}"
        )
