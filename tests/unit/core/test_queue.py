"""Taking chosen requests out of the queue."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from conch.config.schema import DynamicBatching, QueuePolicy
from conch.core.queue import Pending, RequestFuture, RequestQueue
from tests.unit.core.conftest import make_request

#: The queue never looks at futures here.
NO_FUTURE = cast(RequestFuture, asyncio.Future)


def pending(number: int, priority: int = 0, timeout_us: int = 0) -> Pending:
    request = make_request((float(number),), priority=priority, timeout_us=timeout_us)
    return Pending(request, NO_FUTURE, 1, None, 0)


def test_chosen_requests_leave_and_the_others_keep_their_order() -> None:
    queue = RequestQueue(DynamicBatching())
    items = [pending(number) for number in range(6)]
    for item in items:
        queue.push(item)
    assert queue.pick([0, 2, 4]) == [items[0], items[2], items[4]]
    assert list(queue) == [items[1], items[3], items[5]]
    assert len(queue) == 3
    assert queue.pick([]) == []
    assert queue.pick([0, 1, 2]) == [items[1], items[3], items[5]]
    assert len(queue) == 0


@pytest.mark.parametrize("positions", [[0], [0, 2], [1, 3], [0, 1, 2, 3], [3]])
def test_positions_count_through_the_priority_levels(positions: list[int]) -> None:
    queue = RequestQueue(DynamicBatching(priority_levels=2, default_priority_level=2))
    low = [pending(0), pending(1)]
    high = [pending(2, priority=1), pending(3, priority=1)]
    for item in (*low, *high):
        queue.push(item)
    in_order = [*high, *low]
    assert [item.rank for item in in_order] == [0, 0, 2, 2]
    assert queue.pick(positions) == [in_order[position] for position in positions]
    assert list(queue) == [item for position, item in enumerate(in_order) if position not in positions]


def test_requests_moved_back_rank_behind_their_level() -> None:
    policy = QueuePolicy(timeout_action="DELAY", default_timeout_microseconds=10)
    queue = RequestQueue(DynamicBatching(default_queue_policy=policy))
    late = pending(0)
    queue.push(late)
    assert queue.expire(20_000) == []
    fresh = pending(1)
    fresh.enqueued_ns = 20_000
    queue.push(fresh)
    assert list(queue) == [fresh, late]
    assert (fresh.rank, late.rank) == (0, 1)
    assert queue.pick([0, 1]) == [fresh, late]
    assert queue.next_deadline_ns() == 0


def test_a_chosen_request_takes_its_time_out_with_it() -> None:
    queue = RequestQueue(DynamicBatching(default_queue_policy=QueuePolicy(default_timeout_microseconds=10)))
    for number in range(3):
        queue.push(pending(number))
    queue.pick([0, 2])
    assert queue.next_deadline_ns() == 10_000
    assert len(queue.expire(10_000)) == 1
    assert queue.next_deadline_ns() == 0
