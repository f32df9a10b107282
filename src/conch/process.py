"""The process that serves: its event loop, its memory, its garbage collector, and the GPUs that it may use."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path


def new_event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop; None for asyncio's own."""
    try:
        import uvloop
    except ImportError:  # not built for every platform; the standard loop serves, more slowly
        return None
    return uvloop.new_event_loop


def visible_gpu_count() -> int:
    """NVIDIA GPUs that this process may use, read from the driver's own list (no CUDA library is loaded)."""
    drivers = Path("/proc/driver/nvidia/gpus")
    present = len(list(drivers.iterdir())) if drivers.is_dir() else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    chosen = [device for device in visible.split(",") if device.strip() and device.strip() != "-1"]
    return min(present, len(chosen))


#: glibc's `mallopt` parameters, and how much freed memory it may keep instead of returning it to the system.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 128 << 20
_LARGEST_HEAP_BLOCK_BYTES = 32 << 20


def keep_freed_memory() -> None:
    """Let the C library reuse the memory of large request bodies rather than unmap and fault it in again.

    A 600 KB tensor costs 150 page faults otherwise, which was half of the time of such a request.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc; others have no such knob and other habits
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK_BYTES)


def tune_garbage_collector() -> None:
    """What start-up made lives for ever: take it out of the collector's sight, and collect less often.

    The serving path makes no reference cycles of its own; the default threshold of 700 allocations would scan many
    times a second for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
