"""When an instance waits for those it has answered, and when it does not."""

from __future__ import annotations

import asyncio

from conch.config.schema import DynamicBatching
from conch.core.regrouping import LONG_NS, Regrouping
from conch.testing import SlowBackend
from conch.testing.clock import settle
from tests.unit.core.conftest import Harness, make_config, make_request, run

LONG_S = 0.2


def test_it_waits_until_as_many_came_as_were_answered() -> None:
    regrouping = Regrouping()
    regrouping.executed(2, 10 * LONG_NS, 0)
    assert regrouping.waits(1)
    regrouping.came()
    assert regrouping.waits(2)
    regrouping.came()
    assert not regrouping.waits(3)


def test_it_waits_a_small_part_of_the_execution_and_no_longer() -> None:
    regrouping = Regrouping()
    regrouping.executed(2, 3 * LONG_NS, 100)
    assert regrouping.until_ns == 100 + 3 * LONG_NS // 32
    assert regrouping.waits(regrouping.until_ns - 1)
    assert not regrouping.waits(regrouping.until_ns)
    assert not regrouping.waits(0)


def test_short_executions_are_not_waited_after() -> None:
    regrouping = Regrouping()
    regrouping.executed(2, LONG_NS - 1, 0)
    assert not regrouping.waits(0)


def test_where_nobody_comes_back_it_seldom_waits() -> None:
    regrouping = Regrouping()
    waited = 0
    for number in range(100):
        now_ns = number * 1000 * LONG_NS
        regrouping.executed(4, LONG_NS, now_ns)
        waited += regrouping.waits(now_ns)
        regrouping.waits(now_ns + LONG_NS)
    assert 6 <= waited <= 15


def test_clients_that_come_back_are_waited_for_again() -> None:
    regrouping = Regrouping()
    for number in range(200):
        now_ns = number * 1000 * LONG_NS
        regrouping.executed(1, LONG_NS, now_ns)
        waits = regrouping.waits(now_ns)
        if number >= 100:
            regrouping.came()
        regrouping.waits(now_ns + LONG_NS)
    assert waits


def test_four_clients_share_a_batch_that_began_as_one_and_three() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=DynamicBatching()))
        slow = harness.instances[0]
        one = harness.model.infer(make_request())
        await settle()
        three = [harness.model.infer(make_request()) for _ in range(3)]
        await harness.clock.advance(LONG_S)
        slow.release()
        await one
        await settle()
        assert [len(batch) for batch in slow.batches] == [1]
        again = harness.model.infer(make_request())
        await settle()
        assert [len(batch) for batch in slow.batches] == [1, 4]
        slow.release()
        await asyncio.gather(again, *three)
        await harness.model.close()

    run(work())


def test_those_that_wait_leave_soon_when_nobody_comes_back() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=DynamicBatching()))
        slow = harness.instances[0]
        one = harness.model.infer(make_request())
        await settle()
        other = harness.model.infer(make_request())
        await harness.clock.advance(LONG_S)
        slow.release()
        await one
        await harness.clock.advance(0.004)
        assert len(slow.batches) == 1
        await harness.clock.advance(0.0011)
        assert len(slow.batches) == 2
        slow.release()
        await other
        await harness.model.close()

    run(work())


def test_a_full_batch_does_not_wait() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=DynamicBatching()))
        slow = harness.instances[0]
        one = harness.model.infer(make_request())
        await settle()
        others = [harness.model.infer(make_request()) for _ in range(8)]
        await harness.clock.advance(LONG_S)
        slow.release()
        await one
        await settle()
        assert [len(batch) for batch in slow.batches] == [1, 8]
        slow.release()
        await asyncio.gather(*others)
        await harness.model.close()

    run(work())


def test_a_queue_delay_of_the_models_own_is_all_there_is() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=DynamicBatching(max_queue_delay_microseconds=1)))
        slow = harness.instances[0]
        one = harness.model.infer(make_request())
        await harness.clock.advance(0.001)
        other = harness.model.infer(make_request())
        await harness.clock.advance(LONG_S)
        slow.release()
        await one
        await settle()
        assert len(slow.batches) == 2
        slow.release()
        await other
        await harness.model.close()

    run(work())
