"""Where time comes from: injected, so that tests decide when it passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A planned call."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The time and what waits for it."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never goes back."""
        ...

    def epoch_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the event loop once `monotonic_ns` has reached `when_ns`."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clocks and the running event loop's timers."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    sleep = staticmethod(asyncio.sleep)

    def epoch_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Call on the running event loop."""
        delay_s = max(0, when_ns - time.monotonic_ns()) * 1e-9
        return asyncio.get_running_loop().call_later(delay_s, callback)
