"""The server's end of the shared memory that it writes large tensors to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from conch.backends.python.loans import Loans, OutputArena
from conch.backends.python.stub.conch_stub.memory import IDLE_BATCHES, Segment, SegmentFile, SegmentPool, aligned
from conch.tensor.tensor import Buffer

#: (offset of the segment, its size, start within it, length): where a tensor lies.
Place = tuple[int, int, int, int]


class ChildMemory(msgspec.Struct, frozen=True):
    """All memory that a child's large tensors lie in.

    Attributes:
        inputs: what the server writes.
        outputs: what the child writes.
        loans: what other children wrote and this one reads.
    """

    inputs: InputArena
    outputs: OutputArena
    loans: Loans


class InputArena:
    """One segment that each batch's large inputs are written to anew, after the one before was answered."""

    def __init__(self, descriptor: int) -> None:
        self._file = SegmentFile(descriptor)
        #: The segments of answers to the child's own calls.
        self.lent = SegmentPool(self._file)
        self._segment: Segment | None = None
        self._idle_batches = 0

    def reserve(self, sizes: Sequence[int]) -> tuple[Segment, list[Place]]:
        """Places for tensors of those sizes, in a segment large enough for all."""
        needed = sum(aligned(size) for size in sizes)
        segment = self._segment
        if segment is None or len(segment) < needed:
            segment = self._segment = self._file.append(needed)
        self._note_use(needed * 4 >= len(segment))
        return segment, _places(segment, sizes)

    def lend(self, sizes: Sequence[int]) -> tuple[Segment, list[Place]]:
        """Places in a segment that is the child's until it is released through `lent`."""
        segment = self.lent.take(sum(aligned(size) for size in sizes))
        return segment, _places(segment, sizes)

    def note_unused(self) -> None:
        """A batch needed no shared memory."""
        if self._segment is not None:
            self._note_use(False)

    def forget(self) -> None:
        """The model kept views of the segment: it is the model's now, the next batch gets another."""
        self._segment = None

    def _note_use(self, well_used: bool) -> None:
        self._idle_batches = 0 if well_used else self._idle_batches + 1
        if self._idle_batches <= IDLE_BATCHES or self._segment is None:
            return
        # Dropped after this batch's use of it; the child frees the memory when it maps the next segment.
        self._idle_batches = 0
        self._segment = None


def _places(segment: Segment, sizes: Sequence[int]) -> list[Place]:
    places: list[Place] = []
    start = 0
    for size in sizes:
        places.append((segment.offset, len(segment), start, size))
        start += aligned(size)
    return places


def write(segment: Segment, places: Sequence[Place], data: Sequence[Buffer]) -> None:
    """Copy tensors to their places. numpy's copy lets other threads run meanwhile."""
    target = np.frombuffer(segment, np.uint8)
    for (_, _, start, size), source in zip(places, data, strict=True):
        if size:
            target[start : start + size] = np.frombuffer(source, np.uint8)
