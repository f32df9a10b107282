"""Tensors on their way to the server: small ones in the message, large ones in shared memory.

A large tensor that is lent to this process is not copied: the server is told where it has it from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .child_memory import ChildMemory
from .memory import aligned
from .protocol import INLINE_MESSAGE_BYTES, INLINE_TENSOR_BYTES
from .tensor import Tensor, wire_data


class Outgoing:
    """The tensors of one message.

    Args:
        memory: where large ones go.

    Attributes:
        large: those that `place` has to put there: message, position in it, data.
        forwarded: those on loan; they have to live until the message is sent.
    """

    __slots__ = ("_inline_bytes", "_memory", "forwarded", "large")

    def __init__(self, memory: ChildMemory) -> None:
        self._memory = memory
        self._inline_bytes = 0
        self.large: list[tuple[list[Any], int, Any]] = []
        self.forwarded: list[Any] = []

    def add(self, tensors: Iterable[Tensor], wanted: Any) -> list[Any]:
        """The wire form of the wanted ones (None: of all); complete once `place` was called."""
        encoded: list[Any] = []
        for tensor in tensors:
            if wanted is not None and tensor._name not in wanted:
                continue
            untouched = tensor._array is None
            data = wire_data(tensor)
            size = len(data) if type(data) is bytes else data.nbytes
            if size > INLINE_TENSOR_BYTES or self._inline_bytes + size > INLINE_MESSAGE_BYTES:
                place = None if type(data) is bytes else self._memory.borrower.forward(data, untouched)
                if place is not None:
                    self.forwarded.append(data)
                    data = place
                else:
                    self.large.append((encoded, len(encoded), data))
            else:
                self._inline_bytes += size
            encoded.append((tensor._name, tensor._datatype, tensor._shape, data))
        return encoded

    def place(self) -> None:
        """Copy the large tensors (there are some) into one shared segment and put their places into the message."""
        sizes = [len(data) if type(data) is bytes else data.nbytes for _, _, data in self.large]
        segment = self._memory.pool.take(sum(aligned(size) for size in sizes))
        start = 0
        for (tensors, position, data), size in zip(self.large, sizes):  # noqa: B905 (strict= is of Python 3.10)
            if size:
                segment[start : start + size] = data if type(data) is bytes else memoryview(data).cast("B")
            name, datatype, shape, _ = tensors[position]
            tensors[position] = (name, datatype, shape, (segment.offset, len(segment), start, size))
            start += aligned(size)
