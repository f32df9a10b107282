"""The precise timer against the machine's clock: a few milliseconds of real time."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from conch.bench.clock import PreciseClock

MS = 1_000_000


def open_files() -> int:
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


def test_a_call_comes_when_it_is_due_and_not_before() -> None:
    async def work() -> None:
        clock = PreciseClock()
        fired: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        due_ns = clock.monotonic_ns() + 3 * MS
        clock.call_at(due_ns, lambda: fired.set_result(clock.monotonic_ns()))
        assert await asyncio.wait_for(fired, 60) >= due_ns
        clock.close()

    asyncio.run(work())


def test_a_time_that_has_passed_fires_at_once() -> None:
    async def work() -> None:
        clock = PreciseClock()
        loop = asyncio.get_running_loop()
        fired: asyncio.Future[int] = loop.create_future()
        asked_ns = clock.monotonic_ns()
        clock.call_at(0, lambda: fired.set_result(clock.monotonic_ns()))  # which must not disarm the timer
        assert await asyncio.wait_for(fired, 60) >= asked_ns
        clock.close()

    asyncio.run(work())


def test_a_new_call_replaces_the_one_that_waits() -> None:
    async def work() -> None:
        clock = PreciseClock()
        fired: list[str] = []
        done = asyncio.Event()
        clock.call_at(clock.monotonic_ns() + MS, lambda: fired.append("old"))
        clock.call_at(clock.monotonic_ns() + 2 * MS, done.set)
        await asyncio.wait_for(done.wait(), 60)
        assert fired == []
        clock.close()

    asyncio.run(work())


def test_a_cancelled_call_is_not_made() -> None:
    async def work() -> None:
        clock, other = PreciseClock(), PreciseClock()
        fired: list[int] = []
        done = asyncio.Event()
        clock.call_at(clock.monotonic_ns() + MS, lambda: fired.append(1)).cancel()
        other.call_at(other.monotonic_ns() + 2 * MS, done.set)
        await asyncio.wait_for(done.wait(), 60)
        assert fired == []
        clock.close()
        other.close()

    asyncio.run(work())


@pytest.mark.skipif(sys.platform != "linux", reason="counts file descriptors in /proc")
def test_closing_gives_the_timer_back() -> None:
    async def work() -> None:
        before = open_files()
        clock = PreciseClock()
        clock.call_at(clock.monotonic_ns() + 1000 * MS, lambda: None)
        clock.close()
        clock.close()
        assert open_files() == before

    asyncio.run(work())
