"""The process that serves: its event loop, its memory, its garbage collector, and the GPUs that it may use."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import resource
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger("conch.process")


def new_event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop; None for asyncio's own."""
    try:
        import uvloop
    except ImportError:  # not built for every platform; the standard loop serves, more slowly
        return None
    return uvloop.new_event_loop


#: As many open files as a process asks for: a connection costs one, an instance of a Python model some ten.
_OPEN_FILES = 65536


#: Fewer than a server with some models and a few hundred clients needs.
_FEW_OPEN_FILES = 1024


def raise_open_file_limit() -> None:
    """Allow this process as many open files as the system lets it have; the log tells when these are few.

    Shells and service managers start programs with 1024, which some hundred connections use up; from then on the event
    loop drops new ones without a word.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower limit that they do not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= allowed < _FEW_OPEN_FILES:
        logger.warning(
            "this process may open %d files at most: models may not load (Too many open files) and connections may be "
            "dropped; raise the limit where it is started ('ulimit -n', LimitNOFILE=)", allowed,
        )  # fmt: skip


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
