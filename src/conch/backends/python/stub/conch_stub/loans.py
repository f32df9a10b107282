"""Large tensors that lie where another process wrote them: lent by the server, read in place, returned when unused.

A loan is a segment of another child's output file, whose descriptor the server sends once, ahead of the first loan
from it. It is mapped privately: a model may write into its tensors, and nobody but itself sees that. While nothing was
written, the mapping shows what its owner writes there next, so it is kept for the next loan of the segment, and the
tensors of the loan can be handed on without a copy. The kernel knows which pages of a private mapping were written.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import sys
import threading
import weakref
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from .memory import ALIGNMENT, UNTRACKED

#: An announcement: a file and, sent along, its descriptor; or, negative, a file that no more loans come from.
ANNOUNCEMENT = struct.Struct("<q")

#: How a descriptor rides along.
_DESCRIPTOR = struct.Struct("i")

#: A loan in a message: its number, the file, where in it the segment starts, its size.
WireLoan = tuple[int, int, int, int]

#: Mappings that are kept for the next loan of their segments.
_MAX_IDLE = 64

#: What the kernel tells of a page.
_ENTRY_BYTES = 8


class _Mapping(mmap.mmap):
    """A private mapping of a segment.

    Attributes:
        key: the file, and the segment's offset in it.
        address: where it lies.
    """

    key: tuple[int, int]
    address: int


class Loan(np.ndarray):
    """The bytes of a segment on loan. All arrays over it refer to it, so its end is that of the loan.

    Attributes:
        number: the server's for the loan.
        address: where it is mapped.
    """

    number: int
    address: int


class _PageMap:
    """Tells which pages of this process's private mappings were written (Linux)."""

    def __init__(self) -> None:
        self._descriptor = -1
        if sys.platform == "linux" and sys.byteorder == "little":
            try:
                self._descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return  # nothing is known: whatever might be written counts as written
            if not self._is_truthful():
                os.close(self._descriptor)
                self._descriptor = -1

    def unwritten(self, address: int, size: int) -> bool:
        """Whether no page of that range was written, as far as can be told."""
        if self._descriptor < 0:
            return False
        first = address // mmap.PAGESIZE
        count = -(-(address + size) // mmap.PAGESIZE) - first
        entries = os.pread(self._descriptor, count * _ENTRY_BYTES, first * _ENTRY_BYTES)
        if len(entries) != count * _ENTRY_BYTES:
            return False
        # Bits 63 and 62: there is a page, in memory or swapped out; bit 61: it is the file's and not a copy.
        return all(flags & 0x20 or not flags & 0xC0 for flags in set(entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES]))

    def _is_truthful(self) -> bool:
        """Whether it tells a page that was written from one that was read."""
        with mmap.mmap(-1, mmap.PAGESIZE) as shared, mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE) as private:
            shared[0] = private[0] = 1
            told = [self.unwritten(_address(mapping), mmap.PAGESIZE) for mapping in (shared, private)]
        return told == [True, False]


class Borrower:
    """Loans to this process. Any thread may use it.

    Args:
        announcements: where descriptors of files come from.
    """

    def __init__(self, announcements: socket.socket) -> None:
        self._announcements = announcements
        self._pages = _PageMap()
        self._files: dict[int, int] = {}
        #: By file and offset.
        self._idle: dict[tuple[int, int], list[_Mapping]] = {}
        self._idle_count = 0
        self._lent: dict[int, tuple[weakref.ref[Loan], _Mapping]] = {}
        # Guards all above. Loans end wherever the last array over one does, possibly while this is held: what has
        # ended is only noted there.
        self._lock = threading.Lock()
        self._ended: list[int] = []
        self._returned: list[int] = []

    def take(self, loans: Iterable[WireLoan]) -> dict[int, Loan]:
        """The loans of a message, by their numbers.

        Raises:
            OSError, ValueError: they cannot be mapped.
        """
        with self._lock:
            return {number: self._take(number, *place) for number, *place in loans}

    def decline(self, loans: Iterable[WireLoan]) -> None:
        """Return loans of a message that nobody reads."""
        self._returned += [number for number, *_ in loans]

    def take_returned(self) -> tuple[int, ...]:
        """Loans that ended since the last call."""
        if not self._ended and not self._returned:
            return ()
        with self._lock:
            self._sort_ended()
            returned, self._returned = self._returned, []
        return tuple(returned)

    def forward(self, array: np.ndarray[Any, Any], untouched: bool) -> tuple[int, int, int] | None:
        """The place of an array that lies in a loan as it was lent: number, start and length.

        Args:
            untouched: the model never saw the array, so that it cannot have written to it.
        """
        base: Any = array.base
        while type(base) is np.ndarray:
            base = base.base
        if type(base) is not Loan:
            return None
        address, size = array.__array_interface__["data"][0], array.nbytes
        start = address - base.address
        if start % ALIGNMENT or not (untouched or self._pages.unwritten(address, size)):
            return None
        return base.number, start, size

    def _take(self, number: int, file: int, offset: int, size: int) -> Loan:
        self._sort_ended()
        idle = self._idle.get((file, offset))
        if idle:
            mapping = idle.pop()
            self._idle_count -= 1
        else:
            mapping = _Mapping(self._descriptor(file), size, flags=mmap.MAP_PRIVATE, offset=offset, **UNTRACKED)
            mapping.key = file, offset
            mapping.address = _address(mapping)
        loan = Loan((size,), np.uint8, mapping)
        loan.number = number
        loan.address = mapping.address
        self._lent[number] = weakref.ref(loan, partial(self._end, number)), mapping
        return loan

    def _end(self, number: int, _: weakref.ref[Loan]) -> None:
        self._ended.append(number)

    def _sort_ended(self) -> None:
        """Keep the mappings of ended loans that nobody wrote to."""
        while self._ended:
            number = self._ended.pop()
            _, mapping = self._lent.pop(number)
            self._returned.append(number)
            if self._pages.unwritten(mapping.address, len(mapping)):
                self._idle.setdefault(mapping.key, []).append(mapping)
                self._idle_count += 1
        while self._idle_count > _MAX_IDLE:
            key = next(iter(self._idle))
            self._idle_count -= len(self._idle.pop(key))

    def _descriptor(self, file: int) -> int:
        while file not in self._files:
            size = ANNOUNCEMENT.size
            data, ancillary, _, _ = self._announcements.recvmsg(size, socket.CMSG_SPACE(_DESCRIPTOR.size))
            if len(data) < size:
                raise OSError("the server is gone")
            (announced,) = ANNOUNCEMENT.unpack(data)
            if announced >= 0:
                [(_, _, content)] = ancillary
                (self._files[announced],) = _DESCRIPTOR.unpack(content[: _DESCRIPTOR.size])
            else:
                self._forget(-announced)
        return self._files[file]

    def _forget(self, file: int) -> None:
        os.close(self._files.pop(file))
        for key in [key for key in self._idle if key[0] == file]:
            self._idle_count -= len(self._idle.pop(key))


def _address(mapping: mmap.mmap) -> int:
    address: int = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
    return address
