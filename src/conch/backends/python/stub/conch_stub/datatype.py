"""Datatypes in the child: wire name, numpy dtype, `TYPE_` name and number."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

#: Wire name, numpy type; the position is Triton's number of the type, less one.
_TYPES: tuple[tuple[str, Any], ...] = (
    ("BOOL", np.bool_),
    ("UINT8", np.uint8),
    ("UINT16", np.uint16),
    ("UINT32", np.uint32),
    ("UINT64", np.uint64),
    ("INT8", np.int8),
    ("INT16", np.int16),
    ("INT32", np.int32),
    ("INT64", np.int64),
    ("FP16", np.float16),
    ("FP32", np.float32),
    ("FP64", np.float64),
    ("BYTES", np.object_),
)

#: Triton's number of a datatype -> numpy type.
NUMPY_BY_NUMBER: dict[int, Any] = {number: numpy for number, (_, numpy) in enumerate(_TYPES, 1)}

#: `TYPE_*` -> numpy type, as models know the table.
TRITON_STRING_TO_NUMPY: dict[str, Any] = {
    ("TYPE_STRING" if name == "BYTES" else f"TYPE_{name}"): (bool if name == "BOOL" else numpy)
    for name, numpy in _TYPES
}

#: Wire name -> dtype of the raw elements (BYTES has none; BF16, which numpy lacks, its bits).
DTYPE_BY_NAME: dict[str, np.dtype[Any]] = {name: np.dtype(numpy) for name, numpy in _TYPES if name != "BYTES"}
DTYPE_BY_NAME["BF16"] = np.dtype(np.uint16)

#: dtype of an array -> wire name. Byte-swapped dtypes are not in it.
NAME_BY_DTYPE: dict[np.dtype[Any], str] = {np.dtype(numpy): name for name, numpy in _TYPES}


def name_of_dtype(dtype: np.dtype[Any]) -> str | None:
    """The wire name of an array's dtype, or None for one no tensor can have."""
    name = NAME_BY_DTYPE.get(dtype)
    if name is None and dtype.kind == "S":
        return "BYTES"
    if name is None and dtype.name == "bfloat16":  # the ml_dtypes package gives numpy one
        return "BF16"
    return name


def encode_elements(array: np.ndarray[Any, Any]) -> bytes:
    """The elements of an object or bytes array in C order, each behind its 4-byte length; text becomes UTF-8."""
    parts: list[bytes] = []
    pack = struct.Struct("<I").pack
    for element in array.reshape(-1).tolist():
        raw = element if type(element) is bytes else str(element).encode()
        parts.append(pack(len(raw)))
        parts.append(raw)
    return b"".join(parts)


def decode_elements(data: Any) -> list[bytes]:
    """The elements behind their 4-byte lengths. Raises struct.error where the data ends within one."""
    elements: list[bytes] = []
    unpack = struct.Struct("<I").unpack_from
    view = memoryview(data)
    offset, end = 0, len(view)
    while offset < end:
        (size,) = unpack(view, offset)
        offset += 4 + size
        if offset > end:
            raise struct.error(f"element {len(elements)} of {size} bytes ends {offset - end} bytes behind the data")
        elements.append(bytes(view[offset - size : offset]))
    return elements
