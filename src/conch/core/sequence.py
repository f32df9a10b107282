"""Which sequence has which place: slots, backlog and its time-outs, and what a direct batch is made of.

The rules are those of Triton's sequence batcher (`sequence_batch_scheduler.cc`).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

import msgspec

from conch.core.batching import Waiting

T = TypeVar("T")

#: What a client calls its sequence; 7 and "7" are two sequences.
CorrelationId = int | str


class Backlog(Generic[T]):
    """The requests so far of a sequence that waits for a slot.

    Attributes:
        deadline_ns: when it is given up; 0 for never.
    """

    __slots__ = ("correlation_id", "deadline_ns", "entries")

    def __init__(self, correlation_id: CorrelationId) -> None:
        self.correlation_id = correlation_id
        self.entries: list[T] = []
        self.deadline_ns = 0


class SequenceTable(Generic[T]):
    """The sequences of a model version.

    A slot is a number: slot n is place n // lanes of instance n % lanes, so that the lowest free slot spreads sequences
    over the instances.
    """

    def __init__(self, lanes: int, slots_per_lane: int) -> None:
        self._free = list(range(lanes * slots_per_lane))
        self._slots: dict[CorrelationId, int] = {}
        self._backlogs: dict[CorrelationId, Backlog[T]] = {}
        self._waiting: deque[Backlog[T]] = deque()

    def is_open(self, correlation_id: CorrelationId) -> bool:
        """Whether the sequence was started and has not ended."""
        return correlation_id in self._slots or correlation_id in self._backlogs

    def slot_of(self, correlation_id: CorrelationId) -> int | None:
        """The slot of an open sequence; None for one that waits for it."""
        return self._slots.get(correlation_id)

    @property
    def backlog_size(self) -> int:
        """Requests of sequences that wait for a slot."""
        return sum(len(backlog.entries) for backlog in self._waiting)

    def enter(self, correlation_id: CorrelationId, entry: T, *, end: bool, deadline_ns: int = 0) -> int | None:
        """Take a request of an open sequence, or the first one of a new sequence.

        A sequence that is started again goes on where it is: Triton lets the model see a second start.

        Args:
            end: the last request of its sequence; the next one of that id starts another.
            deadline_ns: when to give the sequence up if it still waits for a slot; 0 for never.

        Returns:
            The slot, or None where the entry was kept until one is free.
        """
        slot = self._slots.get(correlation_id)
        backlog = self._backlogs.get(correlation_id)
        if slot is None and backlog is None and self._free:
            slot = heapq.heappop(self._free)
            self._slots[correlation_id] = slot
        if slot is not None:
            if end:
                del self._slots[correlation_id]
            return slot
        if backlog is None:
            backlog = self._backlogs[correlation_id] = Backlog(correlation_id)
            self._waiting.append(backlog)
        backlog.entries.append(entry)
        if deadline_ns:
            backlog.deadline_ns = min(backlog.deadline_ns or deadline_ns, deadline_ns)
        if end:
            del self._backlogs[correlation_id]
        return None

    def close(self, correlation_id: CorrelationId) -> None:
        """End a sequence that has a slot, without its last request; the slot stays taken until it is released."""
        self._slots.pop(correlation_id, None)

    def release(self, slot: int) -> Backlog[T] | None:
        """A slot whose sequence has ended: what has it now, or None where it is free."""
        if not self._waiting:
            heapq.heappush(self._free, slot)
            return None
        backlog = self._waiting.popleft()
        if self._backlogs.get(backlog.correlation_id) is backlog:  # its last request is still to come
            del self._backlogs[backlog.correlation_id]
            self._slots[backlog.correlation_id] = slot
        return backlog

    def expire(self, now_ns: int) -> Sequence[Backlog[T]]:
        """Take out the sequences that have waited too long for a slot."""
        late = [backlog for backlog in self._waiting if 0 < backlog.deadline_ns <= now_ns]
        for backlog in late:
            self._waiting.remove(backlog)
            if self._backlogs.get(backlog.correlation_id) is backlog:
                del self._backlogs[backlog.correlation_id]
        return late

    def next_deadline_ns(self) -> int:
        """When the next sequence will have waited too long; 0 for never."""
        return min((backlog.deadline_ns for backlog in self._waiting if backlog.deadline_ns), default=0)

    def clear(self) -> Sequence[Backlog[T]]:
        """Forget every sequence; returns those that waited for a slot."""
        left = list(self._waiting)
        self._waiting.clear()
        self._backlogs.clear()
        self._slots.clear()
        return left


class DirectPolicy(msgspec.Struct, frozen=True):
    """When a batch of places is worth sending.

    Attributes:
        slots: places of a batch.
        minimum_utilization: the share of them, from 0 to 1, that is sent without waiting for more.
        max_delay_ns: how long a request may wait for that share; 0 sends at once.
    """

    slots: int
    minimum_utilization: float
    max_delay_ns: int


class DirectBatch(msgspec.Struct, frozen=True):
    """For each place, up to the last one that is used, whether its request goes; at another place a null request does.

    Without places: look again at `wait_until_ns`, or (0) when there is a request.
    """

    places: Sequence[bool]
    wait_until_ns: int = 0


def plan_direct_batch(fronts: Sequence[Waiting | None], policy: DirectPolicy, now_ns: int) -> DirectBatch:
    """Decide on the requests that are next at each place (None: there is none)."""
    ready = [front for front in fronts if front is not None]
    if not ready:
        return DirectBatch(())
    if policy.max_delay_ns and policy.minimum_utilization > 0:
        send_at_ns = min(front.enqueued_ns for front in ready) + policy.max_delay_ns
        if now_ns < send_at_ns and len(ready) < policy.minimum_utilization * policy.slots:
            return DirectBatch((), send_at_ns)
    key: Hashable = ready[0].shape_key
    last = max(place for place, front in enumerate(fronts) if front is not None)
    return DirectBatch([front is not None and front.shape_key == key for front in fronts[: last + 1]])
