"""The server's ends of the shared memory: it writes large inputs and looks at large outputs in place."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np

from conch.backends.python.stub.conch_stub.memory import IDLE_BATCHES, Segment, SegmentFile, aligned
from conch.tensor.tensor import Buffer

#: (offset of the segment, its size, start within it, length): where a tensor lies.
Place = tuple[int, int, int, int]


class InputArena:
    """One segment that each batch's large inputs are written to anew, after the one before was answered."""

    def __init__(self, descriptor: int) -> None:
        self._file = SegmentFile(descriptor)
        self._segment: Segment | None = None
        self._idle_batches = 0

    def reserve(self, sizes: Sequence[int]) -> tuple[Segment, list[Place]]:
        """Places for tensors of those sizes, in a segment large enough for all."""
        needed = sum(aligned(size) for size in sizes)
        segment = self._segment
        if segment is None or len(segment) < needed:
            segment = self._segment = self._file.append(needed)
        self._note_use(needed * 4 >= len(segment))
        places: list[Place] = []
        start = 0
        for size in sizes:
            places.append((segment.offset, len(segment), start, size))
            start += aligned(size)
        return segment, places

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


def write(segment: Segment, places: Sequence[Place], data: Sequence[Buffer]) -> None:
    """Copy tensors to their places. numpy's copy lets other threads run meanwhile."""
    target = np.frombuffer(segment, np.uint8)
    for (_, _, start, size), source in zip(places, data, strict=True):
        if size:
            target[start : start + size] = np.frombuffer(source, np.uint8)


class OutputArena:
    """Segments the child writes outputs to; each is released once the last view of its batch's outputs is gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._segments: dict[int, Segment] = {}
        self._viewed: dict[int, tuple[weakref.ref[np.ndarray], int]] = {}  # by the reference's id
        self._released: list[int] = []

    def view(self, offset: int, size: int) -> np.ndarray:
        """The bytes of a segment. Take it once a batch: when it and all views of it are gone, the segment is released.

        Raises:
            ValueError, OSError: there is no such range in the file.
        """
        segment = self._segments.get(offset)
        if segment is None:
            segment = self._segments[offset] = Segment.map(self._descriptor, offset, size, gives_pages_back=False)
        array = np.frombuffer(segment, np.uint8)
        reference = weakref.ref(array, self._release)
        self._viewed[id(reference)] = reference, offset
        return array

    def take_released(self) -> tuple[int, ...]:
        """Segments released since the last call."""
        if not self._released:
            return ()
        released = tuple(self._released)
        del self._released[: len(released)]
        return released

    def retire(self, offsets: Sequence[int]) -> None:
        """The child gave segments back."""
        for offset in offsets:
            self._segments.pop(offset, None)

    def _release(self, reference: weakref.ref[np.ndarray]) -> None:
        self._released.append(self._viewed.pop(id(reference))[1])
