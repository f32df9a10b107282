"""Shared memory for large tensors: one growing anonymous file each way, used in segments.

The file is inherited by descriptor and has no name, so its size is not that of /dev/shm and it disappears with the
last process that holds it, however that ends. The writer appends a segment when no free one is large enough and names
it by its offset; the reader maps it when it first hears of it. The memory of a segment is given back when it went out
of use: inputs by the reader, whose arrays may live on, outputs by the writer, once the reader released them.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import threading
from typing import Any

PAGE_BYTES = mmap.ALLOCATIONGRANULARITY

#: Tensors start at multiples of this, as vector instructions like it.
ALIGNMENT = 64

#: The smallest segment.
MIN_SEGMENT_BYTES = 1 << 20

#: A free segment that was too large or not needed for so many batches is given back.
IDLE_BATCHES = 64

#: What free segments of a pool may hold; beyond that, those not used for longest are given back.
MAX_FREE_BYTES = 256 << 20


def create_file(name: str) -> int:
    """A descriptor of an empty anonymous file in memory (an unlinked temporary file where there is no memfd)."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


#: A mapping needs no descriptor of its own; before Python 3.13 mmap keeps one all the same.
UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class Segment(mmap.mmap):
    """A mapped range of a file. It unmaps itself when the last array or view over it is gone."""

    offset: int = 0
    gives_pages_back: bool = False

    @classmethod
    def map(cls, descriptor: int, offset: int, size: int, gives_pages_back: bool) -> Segment:
        """Map a range; `gives_pages_back` frees its memory, for both sides, once this mapping is gone."""
        segment = cls(descriptor, size, offset=offset, **UNTRACKED)
        segment.offset = offset
        segment.gives_pages_back = gives_pages_back
        return segment

    def discard(self) -> None:
        """Free the memory behind it; both sides would read zeros from now on."""
        if hasattr(mmap, "MADV_REMOVE"):
            self.madvise(mmap.MADV_REMOVE)

    def __del__(self) -> None:
        if self.gives_pages_back:
            self.discard()


class SegmentFile:
    """The writer's end: appends segments to the file."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._end = 0

    def append(self, needed_bytes: int) -> Segment:
        """A new segment of at least that size, a quarter larger so that slightly larger batches fit too."""
        wanted = max(MIN_SEGMENT_BYTES, needed_bytes + needed_bytes // 4)
        size = -(-wanted // PAGE_BYTES) * PAGE_BYTES
        offset = self._end
        os.ftruncate(self.descriptor, offset + size)
        self._end = offset + size
        return Segment.map(self.descriptor, offset, size, gives_pages_back=False)


def aligned(size: int) -> int:
    """`size` rounded up to where the next tensor may start."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class SegmentPool:
    """Segments of a writer that the other side releases one by one, whenever its last view of one is gone.

    Any thread may use it.

    Args:
        file: what new ones are appended to.
    """

    def __init__(self, file: SegmentFile) -> None:
        self._lock = threading.Lock()
        self._file = file
        self._free: list[Segment] = []
        self._busy: dict[int, Segment] = {}
        self._last_used: dict[int, int] = {}
        self._batch = 0

    def release(self, offsets: tuple[int, ...]) -> None:
        """Take back what the other side no longer looks at."""
        if offsets:
            with self._lock:
                for offset in offsets:
                    self._free.append(self._busy.pop(offset))

    def take(self, needed_bytes: int) -> Segment:
        """A segment of at least that size, busy until it is released."""
        with self._lock:
            return self._take(needed_bytes)

    def _take(self, needed_bytes: int) -> Segment:
        self._batch += 1
        largest = 8 * needed_bytes + 16 * MIN_SEGMENT_BYTES
        fitting = [segment for segment in self._free if needed_bytes <= len(segment) <= largest]
        if fitting:
            segment = min(fitting, key=len)
            self._free.remove(segment)
        else:
            segment = self._file.append(needed_bytes)
        self._busy[segment.offset] = segment
        self._last_used[segment.offset] = self._batch
        return segment

    def retire(self) -> tuple[int, ...]:
        """Give back free segments that went unused for long; the other side has to unmap them too."""
        if not self._free:
            return ()
        with self._lock:
            return self._retire()

    def _retire(self) -> tuple[int, ...]:
        oldest_first = sorted(self._free, key=lambda segment: self._last_used[segment.offset])
        excess = sum(map(len, oldest_first)) - MAX_FREE_BYTES
        retired = []
        for segment in oldest_first:
            if excess > 0 or self._batch - self._last_used[segment.offset] > IDLE_BATCHES:
                retired.append(segment)
                excess -= len(segment)
        for segment in retired:
            self._free.remove(segment)
            del self._last_used[segment.offset]
            segment.discard()
        return tuple(segment.offset for segment in retired)
