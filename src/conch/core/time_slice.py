"""A short time slice for the thread that answers: where the cores are busy, its turn comes sooner.

Linux (from 6.12 on) lets a thread ask for a shorter slice than the usual one of some milliseconds. Its share of the
cores stays the same; but when it wakes, it goes before threads with longer slices. The event loop works in bursts of
some ten microseconds, and what it is late with is late for a client, a model and the next batch.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

#: The shortest slice that the system grants.
_SLICE_NS = 100_000

#: Numbers of `sched_setattr` and `sched_getattr`, which the C library does not wrap.
_SYSTEM_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}

#: `struct sched_attr`: size, policy, flags, nice, priority, runtime (of a normal thread: its slice), deadline, period.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
_SCHED_OTHER = 0
_RESET_ON_FORK = 1


def shorten_time_slice() -> bool:
    """Shorten the calling thread's slice; threads and processes that it starts have the usual one.

    Returns:
        Whether the system took it. One that knows nothing of slices takes it, too, and does nothing.
    """
    numbers = _SYSTEM_CALLS.get(platform.machine()) if sys.platform == "linux" else None
    if numbers is None:
        return False
    set_attributes, get_attributes = numbers
    call = ctypes.CDLL(None).syscall
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if call(get_attributes, 0, buffer, _ATTRIBUTES.size, 0):
        return False
    size, policy, flags, nice, priority, _, deadline, period = _ATTRIBUTES.unpack(buffer.raw)
    if policy != _SCHED_OTHER or nice < 0:
        return False  # somebody chose for this process, and what it starts is to inherit that
    wanted = (size, policy, flags | _RESET_ON_FORK, nice, priority, _SLICE_NS, deadline, period)
    return not call(set_attributes, 0, ctypes.create_string_buffer(_ATTRIBUTES.pack(*wanted)), 0)
