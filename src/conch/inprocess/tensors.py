"""Arrays to tensors and back: what a program hands to a model, and what it gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from conch.errors import InvalidArgumentError
from conch.tensor import DataType, Tensor

#: What an input may be: an array, anything with `__dlpack__` (a torch tensor), a (nested) sequence, or a tensor of the
#: core.
ArrayLike = object

_BY_DTYPE: dict[np.dtype, DataType] = {
    member.dtype: member for member in DataType if member not in (DataType.BYTES, DataType.BF16)
}


def datatype_of(dtype: object) -> DataType:
    """The datatype of elements described by a numpy dtype, a type (`bytes`, `str`, `bool`, ...) or a wire name.

    Raises:
        InvalidArgumentError: no tensor can have such elements.
    """
    if isinstance(dtype, DataType):
        return dtype
    if isinstance(dtype, str) and dtype in DataType.__members__:
        return DataType[dtype]
    try:
        found = np.dtype(dtype)  # type: ignore[call-overload]
    except TypeError as error:
        raise InvalidArgumentError(f"dtype must be a numpy dtype, bytes, str or bool, got {dtype!r}") from error
    if found.kind in "OSU":
        return DataType.BYTES
    if found.name == "bfloat16":
        return DataType.BF16
    known = _BY_DTYPE.get(found.newbyteorder("<"))
    if known is None:
        names = ", ".join(each.value for each in DataType)
        raise InvalidArgumentError(f"dtype {found} has no datatype on the wire; there are {names}")
    return known


def to_array(value: ArrayLike) -> np.ndarray:
    """The value as an array; over the same memory where it offers DLPack on the CPU."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def to_tensors(inputs: Mapping[str, ArrayLike]) -> tuple[Tensor, ...]:
    """Inputs by name as tensors, over the arrays' own memory where that is possible.

    Raises:
        InvalidArgumentError: a value is no array, or of elements that no tensor has; the text names the input.
    """
    tensors = []
    for name, value in inputs.items():
        if isinstance(value, Tensor):
            tensors.append(msgspec.structs.replace(value, name=name))
            continue
        try:
            array = to_array(value)
            tensors.append(Tensor.from_numpy(name, array, datatype_of(array.dtype)))
        except (InvalidArgumentError, TypeError, ValueError, BufferError) as error:
            raise InvalidArgumentError(f"input '{name}': {error}") from error
    return tuple(tensors)


def to_arrays(outputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Outputs by name: read-only arrays over the response's own memory; BYTES as objects of type `bytes`."""
    return {tensor.name: tensor.as_numpy() for tensor in outputs}
