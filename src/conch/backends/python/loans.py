"""Large tensors of children on loan to other children: passed on as they lie, without a copy.

What a child answers lies in its output file. Where it goes to another child next (calls of other models, ensembles),
that child is told the place, in a file whose descriptor it got: see `stub.conch_stub.loans`. The server keeps the view
until the borrower returns the loan, and so the owner does not use the memory for anything else.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
from collections.abc import Iterable

import numpy as np

from conch.backends.python.stub.conch_stub.arena import ReaderArena, View
from conch.backends.python.stub.conch_stub.loans import ANNOUNCEMENT, WireLoan
from conch.backends.python.stub.conch_stub.memory import ALIGNMENT, Segment
from conch.tensor.tensor import Buffer

#: Where a tensor lies in a loan: number, start, length.
LoanPlace = tuple[int, int, int]

#: Smaller tensors are copied: keeping books costs as much.
MIN_LOAN_BYTES = 64 << 10

#: What one child may have on loan, in segments' bytes; more is copied. It may keep tensors for as long as it likes, and
#: with each one all the memory that its owner wrote with it.
MAX_LOANED_BYTES = 256 << 20

_numbers = itertools.count(1)


class OutputArena(ReaderArena):
    """The file that a child writes to, as the server reads it.

    Attributes:
        number: the file's, under which other children know it.
        borrowers: those that know it.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(os.dup(descriptor))
        self.number = next(_numbers)
        self.borrowers: set[Loans] = set()
        self._closed = False

    @property
    def descriptor(self) -> int:
        """The file."""
        return self._descriptor

    def close(self) -> None:
        """The child is gone: give the memory back, that of tensors that are still looked at once they are not."""
        if self._closed:
            return
        self._closed = True
        viewed = sorted(offset for _, offset in self._viewed.values())
        segments = [(offset, len(self._segments[offset])) for offset in viewed]
        end = os.fstat(self._descriptor).st_size
        start = 0
        for offset, size in [*segments, (end, 0)]:
            if offset > start:
                Segment.map(self._descriptor, start, offset - start, gives_pages_back=False).discard()
            start = offset + size
        self._end_if_unused()

    def _note_release(self, offset: int) -> None:
        if not self._closed:
            super()._note_release(offset)
        else:
            self._segments.pop(offset).discard()
            self._end_if_unused()

    def _end_if_unused(self) -> None:
        if self._viewed or self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        self._segments.clear()
        for borrower in self.borrowers:
            borrower.forget(self)
        self.borrowers.clear()


class Loans:
    """What one child has borrowed.

    Args:
        announcements: the socket that descriptors go through.
        limit_bytes: how much it may have at once.
    """

    def __init__(self, announcements: socket.socket, limit_bytes: int = MAX_LOANED_BYTES) -> None:
        announcements.setblocking(False)
        self._announcements = announcements
        self._limit_bytes = limit_bytes if sys.platform == "linux" else 0
        self._lent: dict[int, View] = {}
        self._lent_bytes = 0
        self._known: dict[int, OutputArena] = {}
        self._forgotten: list[int] = []
        # Of the message that is being made; by the view's id, the loan and up to where it is used.
        self._new: list[WireLoan] = []
        self._used: dict[int, tuple[int, int]] = {}

    def lend(self, data: Buffer) -> LoanPlace | None:
        """The place of a tensor for the message that is being made; None: it has to be copied."""
        if type(data) is not memoryview or len(data) < MIN_LOAN_BYTES:
            return None
        view = data.obj
        if not isinstance(view, View) or not isinstance(view.arena, OutputArena):
            return None
        start = _address(np.frombuffer(data, np.uint8)) - _address(view)
        if start % ALIGNMENT:
            return None
        # Tensors of one loan must not overlap, as the borrower may write into each.
        number, end = self._used.get(id(view), (0, 0))
        if not number or start < end:
            if self._lent_bytes + len(view) > self._limit_bytes or not self._announce(view.arena):
                return None
            number = next(_numbers)
            self._lent[number] = view
            self._lent_bytes += len(view)
            self._new.append((number, view.arena.number, view.offset, len(view)))
        self._used[id(view)] = number, start + len(data)
        return number, start, len(data)

    def take_new(self) -> tuple[WireLoan, ...]:
        """The loans of the message, which is complete."""
        if not self._new:
            return ()
        new = tuple(self._new)
        self._new.clear()
        self._used.clear()
        return new

    def view(self, number: int, start: int, length: int) -> memoryview:
        """What the borrower passes on.

        Raises:
            KeyError, ValueError: it has nothing like that.
        """
        data = self._lent[number].data[start : start + length]
        if start < 0 or len(data) != length:
            raise ValueError(f"no {length} bytes from {start} on in loan {number}")
        return data

    def end(self, numbers: Iterable[int]) -> None:
        """The borrower returned those. Raises KeyError: it does not have one of them."""
        for number in numbers:
            self._lent_bytes -= len(self._lent.pop(number))

    def close(self) -> None:
        """The borrower is gone."""
        for arena in self._known.values():
            arena.borrowers.discard(self)
        self._known.clear()
        self._lent.clear()

    def forget(self, arena: OutputArena) -> None:
        """No more loans come from that file."""
        del self._known[arena.number]
        self._forgotten.append(arena.number)
        self._tell_forgotten()

    def _announce(self, arena: OutputArena) -> bool:
        """Have the borrower know the file; whether it does."""
        if arena.number in self._known:
            return True
        self._tell_forgotten()
        try:
            socket.send_fds(self._announcements, [ANNOUNCEMENT.pack(arena.number)], [arena.descriptor])
        except OSError:  # a full socket, or more descriptors under way than may be
            return False
        self._known[arena.number] = arena
        arena.borrowers.add(self)
        return True

    def _tell_forgotten(self) -> None:
        while self._forgotten:
            try:
                self._announcements.send(ANNOUNCEMENT.pack(-self._forgotten[0]))
            except OSError:  # a full socket: later
                return
            del self._forgotten[0]


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
