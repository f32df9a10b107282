"""The batching decision, rule by rule."""

from __future__ import annotations

import msgspec

from conch.config.padding import Padding
from conch.config.schema import DynamicBatching
from conch.core.batching import (
    LOOKAHEAD_REQUESTS,
    BatchPolicy,
    Decision,
    Selection,
    plan_batch,
    plan_padded_batch,
)


class Item(msgspec.Struct, frozen=True):
    batch_size: int = 1
    shape_key: object = None
    enqueued_ns: int = 0
    lengths: tuple[int, ...] = ()
    rank: int = 0


def policy(
    max_batch_size: int = 8, preferred: tuple[int, ...] = (), delay_us: int = 0, ordered: bool = False
) -> BatchPolicy:
    return BatchPolicy.of(
        max_batch_size,
        DynamicBatching(
            preferred_batch_size=preferred, max_queue_delay_microseconds=delay_us, preserve_ordering=ordered
        ),
    )


def texts(*lengths: int) -> list[Item]:
    return [Item(lengths=(length,)) for length in lengths]


def bounds(max_ratio: float = 1.25, max_tokens: int = 0) -> Padding:
    return Padding(("sequence",), {}, {}, ((0,),), max_ratio, max_tokens)


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


def test_the_lengths_nearest_to_the_first_requests_go_with_it() -> None:
    assert plan_padded_batch(texts(20, 90, 21, 5, 19, 100), policy(), bounds(), 0) == Selection([0, 2, 4])
    assert plan_padded_batch(texts(20, 24, 23, 21), policy(2), bounds(), 0) == Selection([0, 3])


def test_of_equal_lengths_those_that_came_first_go() -> None:
    assert plan_padded_batch(texts(20, 21, 20, 20, 20), policy(3), bounds(), 0) == Selection([0, 2, 3])


def test_padding_stays_within_its_bound() -> None:
    # 2 x 15 is 1.2 times 10 + 15; with another 10, 3 x 15 would be 1.29 times 35.
    assert plan_padded_batch(texts(15, 10, 10), policy(), bounds(1.25), 0) == Selection([0, 1])
    assert plan_padded_batch(texts(15, 10, 10), policy(), bounds(1.3), 0) == Selection([0, 1, 2])
    assert plan_padded_batch(texts(15, 15, 14), policy(), bounds(1.0), 0) == Selection([0, 1])


def test_a_request_above_the_token_budget_goes_alone() -> None:
    assert plan_padded_batch(texts(50, 50), policy(), bounds(max_tokens=40), 0) == Selection([0])
    assert plan_padded_batch(texts(10, 50, 10, 10, 10, 10), policy(), bounds(max_tokens=40), 0) == Selection(
        [0, 2, 3, 4]
    )


def test_another_shape_is_never_padded_in() -> None:
    waiting = [Item(shape_key=1, lengths=(5,)), Item(shape_key=2, lengths=(5,)), Item(shape_key=1, lengths=(5,))]
    assert plan_padded_batch(waiting, policy(), bounds(), 0) == Selection([0, 2])


def test_a_padded_batch_is_held_back_only_while_everything_that_waits_fits_into_it() -> None:
    assert plan_padded_batch(texts(10, 10), policy(delay_us=10), bounds(), 0) == Selection([], 10_000)
    assert plan_padded_batch(texts(10, 90, 10), policy(delay_us=10), bounds(), 0) == Selection([0, 2])


def test_a_preferred_size_is_made_of_the_nearest() -> None:
    waiting = texts(20, 22, 20, 21, 20)
    assert plan_padded_batch(waiting, policy(preferred=(3,), delay_us=10), bounds(), 0) == Selection([0, 2, 4])


def test_nothing_is_picked_from_an_empty_queue() -> None:
    assert plan_padded_batch([], policy(), bounds(), 0) == Selection(())


def test_requests_without_tokens_go_with_their_like() -> None:
    assert plan_padded_batch(texts(0, 4, 0), policy(), bounds(), 0) == Selection([0, 2])


def test_with_preserve_ordering_only_neighbours_are_batched() -> None:
    assert plan_padded_batch(texts(20, 21, 90, 20), policy(ordered=True), bounds(), 0) == Selection([0, 1])


def test_requests_far_behind_do_not_overtake() -> None:
    waiting = texts(10, *[90] * (LOOKAHEAD_REQUESTS - 1), 10)
    assert plan_padded_batch(waiting, policy(), bounds(), 0) == Selection([0])
    in_the_older_half = [*waiting, *texts(*[90] * (LOOKAHEAD_REQUESTS + 1))]
    assert plan_padded_batch(in_the_older_half, policy(LOOKAHEAD_REQUESTS), bounds(), 0) == Selection(
        [0, LOOKAHEAD_REQUESTS]
    )
    assert plan_padded_batch(in_the_older_half, policy(LOOKAHEAD_REQUESTS // 2), bounds(), 0) == Selection([0])


def test_a_small_request_does_not_overtake_a_large_one_of_its_length() -> None:
    waiting = [Item(6, lengths=(10,)), Item(3, lengths=(10,)), Item(1, lengths=(10,)), Item(1, lengths=(11,))]
    assert plan_padded_batch(waiting, policy(8), bounds(), 0) == Selection([0, 3])
