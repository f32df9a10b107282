"""A named tensor: datatype, shape and raw bytes, exactly as they travel."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from conch.tensor.datatype import DataType

#: Anything that exposes C-contiguous bytes: `bytes`, `bytearray`, `memoryview` (format "B").
Buffer = bytes | bytearray | memoryview


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """A tensor in the wire's own form, so that the serving path never converts what it only passes on.

    Attributes:
        name: the input or output name.
        datatype: element type.
        shape: row-major shape, including the batch dimension where the model batches.
        data: the raw little-endian elements, C order. BYTES elements are each a 4-byte little-endian length followed
            by that many bytes. A memoryview must be one-dimensional with format "B"; whoever holds the Tensor may keep
            reading it (views own a reference to the memory they look into).
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    data: Buffer

    @property
    def element_count(self) -> int:
        """Number of elements (1 for shape [])."""
        return math.prod(self.shape)

    @property
    def byte_size(self) -> int:
        """Length of `data` in bytes."""
        return len(self.data)

    def as_numpy(self) -> np.ndarray:
        """The elements as an array of `shape`.

        Fixed-size types are a read-only view of `data` without a copy (BF16 as its uint16 bits). BYTES becomes an
        object array of `bytes`.

        Raises:
            ValueError: `data` does not hold exactly the elements of `shape`.
        """
        if self.datatype is DataType.BYTES:
            elements = np.empty(self.element_count, dtype=object)
            elements[:] = decode_bytes_elements(self.data, self.element_count)
            return elements.reshape(self.shape)
        return np.frombuffer(self.data, dtype=self.datatype.dtype).reshape(self.shape)

    @classmethod
    def from_numpy(cls, name: str, array: np.ndarray, datatype: DataType) -> Tensor:
        """A tensor over `array`'s memory (copied only where it is not C-contiguous or not of `datatype`'s dtype).

        For BYTES, elements may be `bytes` or anything `str()` turns into text (encoded as UTF-8).
        """
        if datatype is DataType.BYTES:
            return cls(name, datatype, tuple(array.shape), encode_bytes_elements(array.reshape(-1).tolist()))
        contiguous = np.ascontiguousarray(array, dtype=datatype.dtype)
        # A zero-size array has no bytes to view: memoryview.cast refuses shapes with a zero in them.
        data = contiguous.reshape(-1).data.cast("B") if contiguous.size else b""
        return cls(name, datatype, tuple(array.shape), data)


def encode_bytes_elements(elements: Iterable[object]) -> bytes:
    """Elements to the BYTES wire form: each a 4-byte little-endian length and the bytes themselves."""
    parts: list[bytes] = []
    pack = struct.Struct("<I").pack
    for element in elements:
        raw = element if isinstance(element, bytes) else str(element).encode()
        parts.append(pack(len(raw)))
        parts.append(raw)
    return b"".join(parts)


def decode_bytes_elements(data: Buffer, count: int) -> Sequence[bytes]:
    """The `count` elements of a BYTES tensor's wire form.

    Raises:
        ValueError: an element runs past the end, or the data holds more or fewer than `count` elements.
    """
    elements: list[bytes] = []
    unpack = struct.Struct("<I").unpack_from
    offset, end = 0, len(data)
    while offset < end:
        if offset + 4 > end:
            raise ValueError(f"incomplete length of BYTES element {len(elements)}: {end - offset} of 4 bytes")
        (size,) = unpack(data, offset)
        offset += 4
        if offset + size > end:
            raise ValueError(f"BYTES element {len(elements)} of {size} bytes has only {end - offset} bytes")
        elements.append(bytes(data[offset : offset + size]))
        offset += size
    if len(elements) != count:
        raise ValueError(f"expected {count} BYTES elements, got {len(elements)}")
    return elements
