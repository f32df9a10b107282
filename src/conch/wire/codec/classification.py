"""The classification extension: a tensor of scores as its top classes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from conch.errors import InternalError, InvalidArgumentError
from conch.tensor import DataType, Tensor, encode_bytes_elements

_UNSUPPORTED = frozenset({DataType.BOOL, DataType.FP16, DataType.BF16, DataType.BYTES})


def classify(tensor: Tensor, k: int, label: Callable[[int], str], batched: bool) -> Tensor:
    """The top `k` classes of every batch entry as a BYTES tensor of shape [batch, k], or [k] when not `batched`.

    Elements read "value:index" or "value:index:label" (where `label(index)` is not ""); floats are printed with six
    decimals. Fewer classes than `k` give as many as there are. Equal values keep the order of their indices.

    Raises:
        InvalidArgumentError: scores of that datatype cannot be ranked (BOOL, FP16, BF16, BYTES).
        InternalError: the tensor's data does not fit its shape.
    """
    if tensor.datatype in _UNSUPPORTED:
        raise InvalidArgumentError(
            f"class result not available for output due to unsupported type '{tensor.datatype.value}'"
        )
    has_batch = batched and len(tensor.shape) > 0 and tensor.shape[0] > 0
    batch = tensor.shape[0] if has_batch else 1
    classes = math.prod(tensor.shape[1:] if has_batch else tensor.shape)
    try:
        scores = tensor.as_numpy().reshape(batch, classes)
    except ValueError as error:
        raise InternalError(f"output tensor shape does not match size of output for '{tensor.name}'") from error
    count = min(k, classes)
    elements = [_element(row, index, label) for row in scores for index in _top(row, count)]
    shape = (batch, count) if has_batch else (count,)
    return Tensor(tensor.name, DataType.BYTES, shape, encode_bytes_elements(elements))


def _top(row: np.ndarray, count: int) -> list[int]:
    """Indices of the `count` largest values, largest first."""
    if count == 0:
        return []
    descending = -row if row.dtype.kind == "f" else ~row  # `~` reverses the order of signed and unsigned integers
    if count * 4 < len(row):
        threshold = np.partition(descending, count - 1)[count - 1]
        candidates = np.flatnonzero(descending <= threshold)
        if len(candidates) >= count:  # fewer only where NaN is among them
            order = np.argsort(descending[candidates], kind="stable")[:count]
            return [int(index) for index in candidates[order]]
    return [int(index) for index in np.argsort(descending, kind="stable")[:count]]


def _element(row: np.ndarray, index: int, label: Callable[[int], str]) -> str:
    value = row[index]
    number = f"{float(value):f}" if row.dtype.kind == "f" else str(int(value))
    name = label(index)
    return f"{number}:{index}:{name}" if name else f"{number}:{index}"
