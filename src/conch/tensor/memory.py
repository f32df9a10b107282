"""Where the bytes of large requests are put while they are received."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Makes room for so many bytes, whose content is undefined. It lives as long as views of it do.
Allocate = Callable[[int], memoryview]


def heap_memory(size: int) -> memoryview:
    """Room in the process's own memory. Unlike a bytearray's it is not filled with zeros, which would cost memory that
    a client only announced."""
    return np.empty(size, np.uint8).data
