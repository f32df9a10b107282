"""Batching never loses, overfills or reorders, whatever waits."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from conch.core.batching import BatchPolicy, plan_batch


class Item(msgspec.Struct, frozen=True):
    number: int
    batch_size: int
    shape_key: int
    enqueued_ns: int


@st.composite
def queues(draw: st.DrawFn) -> tuple[list[Item], BatchPolicy, int]:
    maximum = draw(st.integers(1, 16))
    preferred = draw(st.frozensets(st.integers(1, maximum), max_size=3)) or frozenset((maximum,))
    policy = BatchPolicy(maximum, preferred, draw(st.sampled_from([0, 10, 1000])))
    sizes = draw(st.lists(st.tuples(st.integers(1, maximum), st.integers(0, 1), st.integers(0, 2000)), max_size=30))
    items = [Item(i, size, key, at) for i, (size, key, at) in enumerate(sizes)]
    return items, policy, draw(st.integers(2000, 4000))


@given(queues())
def test_a_decision_takes_a_prefix_that_fits_and_is_of_one_shape(case: tuple[list[Item], BatchPolicy, int]) -> None:
    items, policy, now_ns = case
    decision = plan_batch(items, policy, now_ns)
    batch = items[: decision.take]
    assert sum(item.batch_size for item in batch) <= policy.max_batch_size
    assert len({item.shape_key for item in batch}) <= 1
    if decision.take == 0 and items:
        assert now_ns < decision.wait_until_ns <= now_ns + policy.max_delay_ns


@given(queues())
def test_deciding_until_the_queue_is_empty_sends_everything_once_and_in_order(
    case: tuple[list[Item], BatchPolicy, int],
) -> None:
    items, policy, now_ns = case
    waiting, sent = list(items), []
    while waiting:
        decision = plan_batch(waiting, policy, now_ns)
        if decision.take == 0:
            now_ns = decision.wait_until_ns
            continue
        sent += waiting[: decision.take]
        waiting = waiting[decision.take :]
    assert sent == items
