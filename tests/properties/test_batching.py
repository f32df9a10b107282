"""Batching never loses, overfills or reorders, whatever waits."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from conch.config.padding import Padding
from conch.core.batching import BatchPolicy, plan_batch, plan_padded_batch


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


class PaddedItem(msgspec.Struct, frozen=True):
    number: int
    batch_size: int
    shape_key: int
    enqueued_ns: int
    lengths: tuple[int, ...]
    rank: int


class PaddedCase(msgspec.Struct):
    waiting: list[PaddedItem]
    policy: BatchPolicy
    padding: Padding
    now_ns: int

    def padded_and_real(self, batch: list[PaddedItem]) -> tuple[int, int]:
        longest = tuple(max(column) for column in zip(*(item.lengths for item in batch), strict=True))
        padded = sum(item.batch_size for item in batch) * self.padding.tokens(longest)
        return padded, sum(item.batch_size * self.padding.tokens(item.lengths) for item in batch)


@st.composite
def padded_queues(draw: st.DrawFn) -> PaddedCase:
    """Queues in their order: by rank, then by arrival."""
    maximum = draw(st.integers(1, 12))
    preferred = draw(st.frozensets(st.integers(1, maximum), max_size=3)) or frozenset((maximum,))
    policy = BatchPolicy(maximum, preferred, draw(st.sampled_from([0, 10, 1000])), draw(st.booleans()))
    terms = draw(st.sampled_from([((0,),), ((0,), (1,)), ((0, 1),), ((0, 1), (1,))]))
    groups = 1 + max(group for term in terms for group in term)
    ratio, budget = draw(st.sampled_from([1.0, 1.15, 2.0, 50.0])), draw(st.sampled_from([0, 30, 200]))
    padding = Padding(tuple("ab"[:groups]), {}, {}, terms, ratio, budget)
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from([1, 1, min(maximum, 3)]),
                st.sampled_from([0, 0, 0, 1]),
                st.integers(0, 2000),
                st.tuples(*[st.sampled_from([0, 5, 6, 10, 11, 30])] * groups),
                st.sampled_from([0, 0, 1]),
            ),
            min_size=draw(st.integers(0, 20)),
            max_size=40,
        )
    )
    items = [PaddedItem(number, *fields) for number, fields in enumerate(sorted(drawn, key=lambda each: each[4]))]
    return PaddedCase(items, policy, padding, draw(st.integers(2000, 4000)))


@given(padded_queues())
def test_a_padded_batch_has_the_first_request_fits_and_keeps_its_bounds(case: PaddedCase) -> None:
    selection = plan_padded_batch(case.waiting, case.policy, case.padding, case.now_ns)
    positions = list(selection.positions)
    if not positions:
        assert not case.waiting or case.now_ns < selection.wait_until_ns <= case.now_ns + case.policy.max_delay_ns
        return
    batch = [case.waiting[position] for position in positions]
    assert positions == sorted(set(positions))
    assert positions[0] == 0
    assert sum(item.batch_size for item in batch) <= case.policy.max_batch_size
    assert len({item.shape_key for item in batch}) == 1
    if case.policy.in_order:
        assert positions == list(range(len(positions)))
    if len(batch) > 1:
        padded, real = case.padded_and_real(batch)
        assert padded <= case.padding.max_ratio * real
        assert not case.padding.max_tokens or padded <= case.padding.max_tokens


@given(padded_queues(), st.integers(0, 5))
def test_padded_batches_send_everything_once_nobody_starves_and_equals_keep_their_order(
    case: PaddedCase, newcomers: int
) -> None:
    """While requests of the lowest rank keep coming: each leaves after as many batches as requests were before it."""
    waiting, sent, now_ns = list(case.waiting), list[PaddedItem](), case.now_ns
    patience = {item.number: position + 1 for position, item in enumerate(waiting)}
    for batches in range(1, 1000):
        if not waiting:
            break
        selection = plan_padded_batch(waiting, case.policy, case.padding, now_ns)
        if not selection.positions:
            now_ns = selection.wait_until_ns
            selection = plan_padded_batch(waiting, case.policy, case.padding, now_ns)
        batch = [waiting[position] for position in selection.positions]
        assert all(batches <= patience[item.number] for item in batch)
        sent += batch
        waiting = [item for item in waiting if item not in batch]
        if batches <= newcomers:
            lengths = tuple(batches + 5 * group for group in range(len(case.padding.groups)))
            late = PaddedItem(1000 + batches, 1, batches % 2, now_ns, lengths, 2)
            waiting.append(late)
            patience[late.number] = batches + len(waiting)
    assert not waiting
    assert len(sent) == len({item.number for item in sent}) == len(patience)
    for one in sent:
        alike = [
            other.number
            for other in sent
            if (other.lengths, other.shape_key, other.rank, other.batch_size)
            == (one.lengths, one.shape_key, one.rank, one.batch_size)
        ]
        assert alike == sorted(alike)
