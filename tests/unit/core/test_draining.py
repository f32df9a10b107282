"""Whoever waits for the last request is told once nothing is under way, and not before."""

from __future__ import annotations

import asyncio

from conch.core.draining import Drain
from conch.testing.clock import settle
from tests.unit.core.conftest import run


def test_all_who_wait_go_on_when_nothing_is_under_way_any_more() -> None:
    async def work() -> None:
        drain, under_way = Drain(), 1
        waiting = [asyncio.create_task(drain.wait(lambda: under_way)) for _ in range(2)]
        await settle()
        assert drain.awaited and not any(task.done() for task in waiting)
        under_way = 0
        drain.tell()
        await asyncio.gather(*waiting)
        assert not drain.awaited

    run(work())


def test_a_request_that_came_before_the_waiting_went_on_is_waited_for() -> None:
    async def work() -> None:
        drain, under_way = Drain(), 1
        waiting = asyncio.create_task(drain.wait(lambda: under_way))
        await settle()
        drain.tell()  # the last one ended, and in the same turn of the loop another came
        await settle()
        assert drain.awaited and not waiting.done()
        under_way = 0
        drain.tell()
        await waiting

    run(work())


def test_nobody_waits_for_a_scheduler_that_is_idle() -> None:
    async def work() -> None:
        drain = Drain()
        await drain.wait(lambda: 0)
        assert not drain.awaited

    run(work())
