"""Memory for large requests that models' processes can read where it lies."""

from __future__ import annotations

from conch.backends.python.loans import MIN_LOAN_BYTES, OutputArena
from conch.backends.python.stub.conch_stub.memory import ALIGNMENT, SegmentFile, SegmentPool, create_file
from conch.tensor.memory import heap_memory

#: Smaller requests are copied to the model's process: that costs less than to keep books.
_MIN_BYTES = 4 * MIN_LOAN_BYTES

#: Larger ones are copied, too: a process may have no more than a few of them on loan.
_MAX_BYTES = 64 << 20


class ReceiveMemory:
    """Room for what clients send, in a file that is lent to models' processes like the output of another model.

    The tensors of a request are lent if they lie at multiples of `ALIGNMENT`. What is received ends at one, so the last
    tensor of a request, and so a single one, does if its size is one, as that of nearly every large tensor is.
    """

    def __init__(self) -> None:
        descriptor = create_file("conch-received")
        self._arena = OutputArena(descriptor)
        self._pool = SegmentPool(SegmentFile(descriptor))

    def allocate(self, size: int) -> memoryview:
        """See `Allocate`."""
        if not _MIN_BYTES <= size <= _MAX_BYTES:
            return heap_memory(size)
        self._pool.release(self._arena.take_released())
        self._arena.retire(self._pool.retire())
        start = -size % ALIGNMENT
        segment = self._pool.take(start + size)
        view = self._arena.view(segment.offset, len(segment))
        return view.data[start : start + size]
