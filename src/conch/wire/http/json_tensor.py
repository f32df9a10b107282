"""Tensors in JSON: the `data` array of an input to raw bytes, the elements of an output to an array."""

from __future__ import annotations

from itertools import chain
from typing import cast

import numpy as np

from conch.errors import InternalError, InvalidArgumentError
from conch.tensor import DataType, Tensor, encode_bytes_elements

_SHAPE_MISMATCH = "Unable to parse 'data': Shape does not match true shape of 'data' field"
_INT = frozenset({int})
_NUMBER = frozenset({int, float})
_BOOL = frozenset({bool})
_STR = frozenset({str})


def tensor_data_from_json(name: str, datatype: DataType, element_count: int, data: object) -> bytes:
    """The raw elements of a JSON `data` value, nested or flat, in row-major order.

    Integers wrap to the width of `datatype`, numbers too large for FP32 become infinite; as Triton does. The number of
    BYTES elements is not checked here, since their count shows only against the model's shape.

    Raises:
        InternalError: `data` is no array, holds values of another type, or not `element_count` of them.
        InvalidArgumentError: `datatype` has no JSON form (FP16, BF16).
    """
    if not isinstance(data, list):
        raise InternalError("Unable to parse 'data': attempt to access JSON non-array as array")
    if datatype is DataType.FP16 or datatype is DataType.BF16:
        raise InvalidArgumentError(
            f"receiving {datatype.value} data via JSON is not supported. Please use the binary data format for input "
            f"{name}"
        )
    elements, types = _flat(data)
    if datatype is DataType.BYTES:
        if not types <= _STR:
            raise InternalError("Unable to parse JSON bytes array: attempt to access JSON non-string as string")
        return encode_bytes_elements(cast(str, element).encode("utf-8", "surrogateescape") for element in elements)
    if len(elements) != element_count:
        raise InternalError(_SHAPE_MISMATCH)
    return _numbers(datatype, elements, types)


def _numbers(datatype: DataType, elements: list[object], types: set[type]) -> bytes:
    kind = datatype.dtype.kind
    if kind == "f":
        if not types <= _NUMBER:
            raise InternalError("Unable to parse 'data': attempt to access JSON non-number as double")
        with np.errstate(over="ignore"):
            return np.array(elements, dtype=np.float64).astype(datatype.dtype).tobytes()
    if kind == "b":
        if not types <= _BOOL:
            raise InternalError("Unable to parse 'data': attempt to access JSON non-boolean as boolean")
        return np.array(elements, dtype=np.bool_).tobytes()
    sign = "signed" if kind == "i" else "unsigned"
    failure = f"Unable to parse 'data': attempt to access JSON non-{sign}-integer as {sign}-integer"
    if not types <= _INT or (kind == "u" and min(cast(list[int], elements)) < 0):
        raise InternalError(failure)
    try:
        return np.array(elements, dtype=np.int64 if kind == "i" else np.uint64).astype(datatype.dtype).tobytes()
    except OverflowError:
        raise InternalError(failure) from None


def _flat(data: list[object]) -> tuple[list[object], set[type]]:
    """The elements of a nested array in order, and the types among them. Linear in the size of the array."""
    types = set(map(type, data))
    while types == {list}:
        data = list(chain.from_iterable(data))  # type: ignore[arg-type]
        types = set(map(type, data))
    if list not in types:
        return data, types
    flat: list[object] = []
    open_lists = [iter(data)]
    while open_lists:
        for element in open_lists[-1]:
            if isinstance(element, list):
                open_lists.append(iter(element))
                break
            flat.append(element)
        else:
            open_lists.pop()
    return flat, set(map(type, flat))


def json_data_of_tensor(tensor: Tensor) -> tuple[list[object], bool]:
    """The flat elements of an output for JSON, and whether NaN or infinity is among them.

    BYTES elements that are not UTF-8 come as lone surrogates, which `encode_json` turns back into the same bytes.

    Raises:
        InvalidArgumentError: the datatype has no JSON form (FP16, BF16).
        InternalError: the data does not hold the elements of the shape.
    """
    datatype = tensor.datatype
    if datatype is DataType.FP16 or datatype is DataType.BF16:
        raise InvalidArgumentError(
            f"sending {datatype.value} data via JSON is not supported. Please use the binary data format for output"
        )
    try:
        array = tensor.as_numpy().reshape(-1)
    except ValueError as error:
        raise InternalError(f"output tensor shape does not match size of output for '{tensor.name}'") from error
    if datatype is DataType.BYTES:
        return [element.decode("utf-8", "surrogateescape") for element in array.tolist()], False
    return array.tolist(), array.dtype.kind == "f" and not bool(np.isfinite(array).all())
