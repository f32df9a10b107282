"""Batch arithmetic: put tensors together along their first axis, and take the result apart again.

Both work on the wire's own bytes: joining row-major tensors along axis 0 is joining their bytes, BYTES elements
included.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from conch.tensor.datatype import DataType
from conch.tensor.tensor import Buffer, Tensor

_LENGTH = struct.Struct("<I")


def concatenate(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors one after the other along axis 0, under the first one's name. A single tensor is returned itself.

    Raises:
        ValueError: their datatypes, or their shapes beyond axis 0, differ; or a tensor is a scalar.
    """
    first = tensors[0]
    if len(tensors) == 1:
        return first
    rows = 0
    for tensor in tensors:
        if not tensor.shape or tensor.shape[1:] != first.shape[1:] or tensor.datatype is not first.datatype:
            raise ValueError(
                f"cannot put together '{first.name}' of {first.datatype.value} {list(first.shape)} and '{tensor.name}' "
                f"of {tensor.datatype.value} {list(tensor.shape)}: only the first dimension may differ"
            )
        rows += tensor.shape[0]
    data = b"".join([tensor.data for tensor in tensors])
    return Tensor(first.name, first.datatype, (rows, *first.shape[1:]), data)


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """All elements of the tensors in one dimension: the form of an input with `allow_ragged_batch`."""
    first = tensors[0]
    count = sum(tensor.element_count for tensor in tensors)
    data = first.data if len(tensors) == 1 else b"".join([tensor.data for tensor in tensors])
    return Tensor(first.name, first.datatype, (count,), data)


def split(tensor: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Take a tensor apart along axis 0 into parts of these sizes, which look into the tensor's own memory.

    Raises:
        ValueError: the sizes do not add up to the first dimension.
    """
    if not tensor.shape or tensor.shape[0] != sum(sizes):
        raise ValueError(f"cannot split '{tensor.name}' of shape {list(tensor.shape)} into parts of {list(sizes)}")
    if len(sizes) == 1:
        return [tensor]
    inner = tensor.shape[1:]
    row_elements = 1
    for dim in inner:
        row_elements *= dim
    whole = memoryview(tensor.data)
    if tensor.datatype is DataType.BYTES:
        ends = _element_ends(whole, [size * row_elements for size in sizes])
    else:
        row_bytes = row_elements * tensor.datatype.item_bytes
        ends, end = [], 0
        for size in sizes:
            end += size * row_bytes
            ends.append(end)
    parts, start = [], 0
    for size, end in zip(sizes, ends, strict=True):
        parts.append(Tensor(tensor.name, tensor.datatype, (size, *inner), whole[start:end]))
        start = end
    return parts


def _element_ends(data: Buffer, counts: Sequence[int]) -> list[int]:
    """Where each run of so many BYTES elements ends."""
    ends, offset = [], 0
    for count in counts:
        for _ in range(count):
            offset += 4 + _LENGTH.unpack_from(data, offset)[0]
        ends.append(offset)
    return ends
