"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count


class _FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    """Implements `conch.core.clock.Clock`; time passes only in `advance`."""

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self._now_ns = start_ns
        self._timers: list[tuple[int, int, _FakeTimer]] = []
        self._numbers = count()

    def monotonic_ns(self) -> int:
        """The time of this clock."""
        return self._now_ns

    def epoch_ms(self) -> int:
        """The time of this clock in milliseconds, taken as the epoch's."""
        return self._now_ns // 1_000_000

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> _FakeTimer:
        """Call once `advance` has reached `when_ns`."""
        timer = _FakeTimer(callback)
        heapq.heappush(self._timers, (when_ns, next(self._numbers), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has passed `seconds`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_at(self._now_ns + round(seconds * 1e9), lambda: done.set_result(None))
        try:
            await done
        finally:
            timer.cancel()

    async def advance(self, seconds: float) -> None:
        """Let time pass: fires timers in order and lets the tasks they wake run."""
        end_ns = self._now_ns + round(seconds * 1e9)
        while self._timers and self._timers[0][0] <= end_ns:
            when_ns, _, timer = heapq.heappop(self._timers)
            self._now_ns = max(self._now_ns, when_ns)
            if timer.callback is not None:
                timer.callback()
            await settle()
        self._now_ns = end_ns
        await settle()


async def settle(turns: int = 10) -> None:
    """Give everything that is ready on the event loop a chance to run."""
    for _ in range(turns):
        await asyncio.sleep(0)
