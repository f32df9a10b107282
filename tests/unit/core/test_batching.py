"""The batching decision, rule by rule."""

from __future__ import annotations

import msgspec

from conch.config.schema import DynamicBatching
from conch.core.batching import BatchPolicy, Decision, plan_batch


class Item(msgspec.Struct, frozen=True):
    batch_size: int = 1
    shape_key: object = None
    enqueued_ns: int = 0


def policy(max_batch_size: int = 8, preferred: tuple[int, ...] = (), delay_us: int = 0) -> BatchPolicy:
    return BatchPolicy.of(
        max_batch_size, DynamicBatching(preferred_batch_size=preferred, max_queue_delay_microseconds=delay_us)
    )


def test_nothing_is_sent_from_an_empty_queue() -> None:
    assert plan_batch([], policy(), 0) == Decision(0)


def test_without_delay_everything_that_fits_is_sent_at_once() -> None:
    assert plan_batch([Item()] * 3, policy(), 0) == Decision(3)


def test_a_batch_never_exceeds_the_maximum() -> None:
    assert plan_batch([Item(3), Item(3), Item(3)], policy(), 0) == Decision(2)


def test_requests_of_another_shape_stay_behind() -> None:
    assert plan_batch([Item(shape_key=1), Item(shape_key=2), Item(shape_key=1)], policy(), 0) == Decision(1)


def test_a_short_batch_waits_for_the_oldest_requests_delay() -> None:
    assert plan_batch([Item(enqueued_ns=100)], policy(delay_us=10), 100) == Decision(0, 10_100)


def test_batch_is_sent_when_oldest_request_exceeds_max_delay() -> None:
    assert plan_batch([Item(enqueued_ns=100), Item(enqueued_ns=9000)], policy(delay_us=10), 10_100) == Decision(2)


def test_a_full_batch_does_not_wait() -> None:
    assert plan_batch([Item()] * 9, policy(delay_us=10), 0) == Decision(8)


def test_a_preferred_size_is_sent_without_waiting() -> None:
    assert plan_batch([Item()] * 5, policy(preferred=(2, 4), delay_us=10), 0) == Decision(4)


def test_an_overdue_batch_is_sent_whole_rather_than_at_a_preferred_size() -> None:
    assert plan_batch([Item()] * 5, policy(preferred=(4,), delay_us=10), 10_000) == Decision(5)


def test_a_batch_that_cannot_grow_is_not_held_back() -> None:
    waiting = [Item(shape_key=1), Item(shape_key=2)]
    assert plan_batch(waiting, policy(delay_us=10), 0) == Decision(1)


def test_a_single_request_may_be_as_large_as_the_maximum() -> None:
    assert plan_batch([Item(8), Item(1)], policy(delay_us=10), 0) == Decision(1)
