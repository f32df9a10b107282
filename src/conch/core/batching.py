"""When to send which of the waiting requests: the dynamic batcher's decision as a pure function.

The rules are those of Triton's dynamic batcher (`DynamicBatchScheduler::GetDynamicBatch`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol

import msgspec

from conch.config.schema import DynamicBatching


class Waiting(Protocol):
    """What the decision needs to know of a waiting request.

    Attributes:
        batch_size: how many inferences it carries (>= 1).
        shape_key: only requests of equal key may share a batch.
        enqueued_ns: when it began to wait.
    """

    @property
    def batch_size(self) -> int: ...
    @property
    def shape_key(self) -> Hashable: ...
    @property
    def enqueued_ns(self) -> int: ...


class BatchPolicy(msgspec.Struct, frozen=True):
    """The part of the configuration the decision depends on.

    Attributes:
        max_batch_size: the largest sum of batch sizes that may be sent.
        preferred: sizes worth sending without further delay, ascending; never empty.
        max_delay_ns: how long the oldest request may wait for company.
    """

    max_batch_size: int
    preferred: frozenset[int]
    max_delay_ns: int

    @classmethod
    def of(cls, max_batch_size: int, batching: DynamicBatching) -> BatchPolicy:
        """The policy of a configuration; without preferred sizes only the full batch is preferred."""
        preferred = frozenset(batching.preferred_batch_size) or frozenset((max_batch_size,))
        return cls(max_batch_size, preferred, batching.max_queue_delay_microseconds * 1000)


class Decision(msgspec.Struct, frozen=True, gc=False):
    """Send the first `take` requests now; or, when that is 0, look again at `wait_until_ns`."""

    take: int
    wait_until_ns: int = 0


def plan_batch(waiting: Iterable[Waiting], policy: BatchPolicy, now_ns: int) -> Decision:
    """Decide on the requests in the order in which they would be sent.

    Returns:
        `Decision(take=0, wait_until_ns=0)` only for an empty `waiting`.
    """
    size = count = preferred_count = 0
    oldest_ns = now_ns
    closed = False  # the batch cannot grow: the next request has another shape or no room is left
    key: Hashable = None
    for request in waiting:
        if count == 0:
            key = request.shape_key
        elif size + request.batch_size > policy.max_batch_size or request.shape_key != key:
            closed = True
            break
        size += request.batch_size
        count += 1
        if request.enqueued_ns < oldest_ns:
            oldest_ns = request.enqueued_ns
        if size in policy.preferred:
            preferred_count = count
        if size >= policy.max_batch_size:
            closed = True
            break
    if count == 0:
        return Decision(0)
    send_at_ns = oldest_ns + policy.max_delay_ns
    overdue = policy.max_delay_ns > 0 and now_ns >= send_at_ns
    if preferred_count and not overdue:
        return Decision(preferred_count)
    if closed or overdue or policy.max_delay_ns == 0 or size >= max(policy.preferred):
        return Decision(count)
    return Decision(0, send_at_ns)
