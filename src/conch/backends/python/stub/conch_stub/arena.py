"""The reader's end of shared memory whose segments the writer uses again (`memory.SegmentPool`)."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from .memory import Segment


class View(np.ndarray):
    """The bytes of a segment. All views of parts of it refer to it.

    Attributes:
        arena: where it comes from.
        offset: of the segment.
    """

    arena: ReaderArena
    offset: int


class ReaderArena:
    """Segments the other side writes to; each is released once the last view of a message's tensors is gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._segments: dict[int, Segment] = {}
        self._viewed: dict[int, tuple[weakref.ref[Any], int]] = {}  # by the reference's id
        self._released: list[int] = []

    def view(self, offset: int, size: int) -> View:
        """The bytes of a segment. Take it once a message: when it and all views of it are gone, that is released.

        Raises:
            ValueError, OSError: there is no such range in the file.
        """
        segment = self._segments.get(offset)
        if segment is None:
            segment = self._segments[offset] = Segment.map(self._descriptor, offset, size, gives_pages_back=False)
        view = View((len(segment),), np.uint8, segment)
        view.arena = self
        view.offset = offset
        reference = weakref.ref(view, self._release)
        self._viewed[id(reference)] = reference, offset
        return view

    def release(self, offset: int) -> None:
        """Release a segment that nobody here has looked at."""
        self._released.append(offset)

    def take_released(self) -> tuple[int, ...]:
        """Segments released since the last call."""
        if not self._released:
            return ()
        released = tuple(self._released)
        del self._released[: len(released)]
        return released

    def retire(self, offsets: Sequence[int]) -> None:
        """The other side gave segments back."""
        for offset in offsets:
            self._segments.pop(offset, None)

    def _release(self, reference: weakref.ref[Any]) -> None:
        self._note_release(self._viewed.pop(id(reference))[1])

    def _note_release(self, offset: int) -> None:
        self._released.append(offset)
