"""Timers that fire on time: event loops round to milliseconds, which would bend a schedule of arrivals."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import time
from collections.abc import Callable
from typing import Any

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_ABSOLUTE = 1
_ITIMERSPEC = struct.Struct("@qqqq")


class PreciseClock:
    """Implements `conch.core.clock.Clock` for one waiting call at a time, to some 50 us where Linux has timerfd."""

    sleep = staticmethod(asyncio.sleep)

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(None, use_errno=True)
        create = getattr(self._library, "timerfd_create", None)
        self._descriptor = -1 if create is None else create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        self._callback: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None

    monotonic_ns = staticmethod(time.monotonic_ns)

    def epoch_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> PreciseClock:
        """Call on the running event loop; replaces a call that still waits."""
        loop = asyncio.get_running_loop()
        if self._descriptor < 0:
            self.cancel()
            self._handle = loop.call_later(max(0, when_ns - time.monotonic_ns()) * 1e-9, callback)
            return self
        self._callback = callback
        if self._loop is not loop:
            self._loop = loop
            loop.add_reader(self._descriptor, self._fire)
        seconds, rest = divmod(max(1, when_ns), 1_000_000_000)
        value = _ITIMERSPEC.pack(0, 0, seconds, rest)
        self._library.timerfd_settime(self._descriptor, _ABSOLUTE, value, None)
        return self

    def cancel(self) -> None:
        """The waiting call is not made."""
        self._callback = None
        if self._handle is not None:
            self._handle.cancel()

    def close(self) -> None:
        """Give the timer back to the system."""
        self.cancel()
        if self._descriptor >= 0:
            if self._loop is not None:
                self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _fire(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
