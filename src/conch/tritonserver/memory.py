"""Memory that tensors lie in, and programs that want outputs in memory of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from conch.errors import InvalidArgumentError, UnsupportedError
from conch.inprocess.tensors import to_array
from conch.tensor.tensor import Buffer
from conch.tritonserver.enums import MemoryType


@dataclass(frozen=True)
class MemoryBuffer:
    """A piece of memory that belongs to somebody else.

    Attributes:
        data_ptr: its address.
        size: bytes.
        owner: whose memory it is; kept as long as the buffer and what is made of it.
    """

    data_ptr: int
    memory_type: MemoryType
    memory_type_id: int
    size: int
    owner: Any

    @classmethod
    def from_dlpack(cls, owner: Any) -> MemoryBuffer:
        """The memory of an array or tensor.

        Raises:
            InvalidArgumentError: it offers none, or does not have it in one piece.
            UnsupportedError: it is not memory of the host.
        """
        if not hasattr(owner, "__dlpack__"):
            raise InvalidArgumentError("Object does not support DLpack protocol")
        try:
            array = to_array(owner)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise UnsupportedError(f"memory of {type(owner).__name__} cannot be used by the host: {error}") from error
        if not array.flags.c_contiguous:
            raise InvalidArgumentError("Only contiguous memory is supported")
        return cls(array.ctypes.data, MemoryType.CPU, 0, array.nbytes, owner)

    @classmethod
    def of_bytes(cls, data: Buffer) -> MemoryBuffer:
        """The memory that bytes lie in."""
        array = np.frombuffer(data, np.uint8)
        return cls(array.ctypes.data, MemoryType.CPU, 0, array.nbytes, data)

    def view(self) -> memoryview:
        """Its bytes where they lie. They can be written, whether its owner likes it or not.

        Raises:
            UnsupportedError: it is not memory of the host.
        """
        if self.memory_type not in (MemoryType.CPU, MemoryType.CPU_PINNED):
            raise UnsupportedError(f"tensors are in host memory, not in {self.memory_type.name}")
        if not self.size:
            return memoryview(b"")
        return np.asarray(_Exposed(self)).data.cast("B")


class _Exposed:
    """Shows a buffer to numpy, which keeps this, and so the buffer and its owner, with the array."""

    def __init__(self, buffer: MemoryBuffer) -> None:
        self.buffer = buffer
        self.__array_interface__ = {
            "data": (buffer.data_ptr, False),
            "shape": (buffer.size,),
            "typestr": "|u1",
            "version": 3,
        }


class MemoryAllocator(ABC):
    """Gives memory for outputs. Each output is copied there once."""

    @abstractmethod
    def allocate(self, size: int, memory_type: MemoryType, memory_type_id: int, tensor_name: str) -> MemoryBuffer:
        """At least `size` bytes of the host's memory for that output."""
        ...


def placed(data: Buffer, allocator: MemoryAllocator, tensor_name: str) -> MemoryBuffer:
    """A copy of an output's bytes in memory of the allocator.

    Raises:
        InvalidArgumentError: the allocator gave something else, or too little.
        UnsupportedError: it is not memory of the host.
    """
    size = len(data)
    buffer = allocator.allocate(size, MemoryType.CPU, 0, tensor_name)
    if not isinstance(buffer, MemoryBuffer) or buffer.size < size:
        given = f"{buffer.size} bytes" if isinstance(buffer, MemoryBuffer) else type(buffer).__name__
        raise InvalidArgumentError(
            f"output '{tensor_name}': the allocator was asked for a MemoryBuffer of {size} bytes, gave {given}"
        )
    if size:
        buffer.view()[:size] = data
    return MemoryBuffer(buffer.data_ptr, buffer.memory_type, buffer.memory_type_id, size, buffer)
