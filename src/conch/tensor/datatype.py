"""The datatype table: wire name, configuration name, numpy dtype and element size."""

from __future__ import annotations

import enum

import numpy as np


class DataType(enum.Enum):
    """A tensor datatype under its KServe v2 wire name.

    Attributes:
        dtype: the numpy dtype of raw (little-endian) elements. BYTES has `object`; BF16, which numpy lacks, has
            `uint16` so that its bits can still be viewed and moved.
        item_bytes: bytes per element on the wire; 0 for BYTES, whose elements carry a 4-byte length each.
        config_name: the spelling in config.pbtxt (`TYPE_STRING` for BYTES).
    """

    BOOL = ("BOOL", "?")
    UINT8 = ("UINT8", "<u1")
    UINT16 = ("UINT16", "<u2")
    UINT32 = ("UINT32", "<u4")
    UINT64 = ("UINT64", "<u8")
    INT8 = ("INT8", "<i1")
    INT16 = ("INT16", "<i2")
    INT32 = ("INT32", "<i4")
    INT64 = ("INT64", "<i8")
    FP16 = ("FP16", "<f2")
    FP32 = ("FP32", "<f4")
    FP64 = ("FP64", "<f8")
    BYTES = ("BYTES", "O")
    BF16 = ("BF16", "<u2")

    dtype: np.dtype
    item_bytes: int
    config_name: str

    def __new__(cls, wire_name: str, numpy_name: str) -> DataType:
        member = object.__new__(cls)
        member._value_ = wire_name
        member.dtype = np.dtype(numpy_name)
        member.item_bytes = 0 if wire_name == "BYTES" else member.dtype.itemsize
        member.config_name = "TYPE_STRING" if wire_name == "BYTES" else f"TYPE_{wire_name}"
        return member


#: Wire name -> member; a dict look-up is several times faster than `DataType(name)`.
DATATYPE_BY_NAME: dict[str, DataType] = {member.value: member for member in DataType}

#: Configuration name (`TYPE_FP32`) -> member.
DATATYPE_BY_CONFIG_NAME: dict[str, DataType] = {member.config_name: member for member in DataType}
