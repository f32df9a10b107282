"""Requests waiting for an instance: priority levels, limits and time-outs, as Triton's priority queue has them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Protocol

from conch.backend_api import Output
from conch.config.padding import Lengths
from conch.config.schema import DynamicBatching, QueuePolicy
from conch.core.response_flow import ResponseFlow
from conch.errors import ConchError, RejectedError
from conch.inference import InferRequest, InferResponse, request_prefix
from conch.trace import RequestTrace


def nothing() -> None:
    """What a settled future has to do when it is cancelled. A hook that stays keeps its request: cycles live long."""


class RequestFuture(asyncio.Future[InferResponse]):
    """The future of one request; tells its scheduler when the client gives up.

    Hooks rather than done callbacks: those would cost every request a turn of the event loop, and some microseconds.

    Attributes:
        on_cancel: the scheduler's; called when the client gives up.
        on_settled: a wire's; called once when the scheduler has settled the request. Must not raise.
        on_response: a wire's; called with each response of a decoupled model before the last one, which settles the
            future. An error here is one of the responses, more may follow. Must not raise.
        flow: where who takes the responses counts them.
        compute: what its execution took, for ensembles to add up: input, infer and output time in ns.
    """

    on_cancel: Callable[[], None]
    on_settled: Callable[[asyncio.Future[InferResponse]], object] | None = None
    on_response: Callable[[InferResponse | ConchError], object] | None = None
    flow: ResponseFlow | None = None
    compute: tuple[int, int, int] = (0, 0, 0)

    def cancel(self, msg: object = None) -> bool:
        """Cancel the request; False when it is settled already."""
        if not super().cancel(msg):
            return False
        self.on_cancel()
        return True


class ResponseTaker(Protocol):
    """What takes the responses that a model sends by itself: the scheduler of the request."""

    def on_response(self, pending: Pending, outcome: Output | ConchError | None, final: bool) -> None:
        """See `conch.backend_api.ResponseSink.send`."""
        ...


class Progress:
    """How far a request has come whose model answers it by itself.

    Attributes:
        executing: whether the execution it was handed to has not ended yet.
        settled: whether its last response has come.
        held: the response of a model that is not decoupled, until it says that it was the last.
        compute: what the execution took, once it has ended.
        succeeded_ns: when its last response came, where that was before the execution ended: the success is counted
            when the times of the execution are known.
        sent: how many responses have come, and of the last one: when.
    """

    __slots__ = ("compute", "executing", "held", "sent", "sent_ns", "settled", "succeeded_ns")

    def __init__(self) -> None:
        self.executing = True
        self.settled = False
        self.succeeded_ns = 0
        self.sent = 0
        self.sent_ns = 0
        self.held: InferResponse | ConchError | None = None
        self.compute: tuple[int, int, int] | None = None


class Pending:
    """A request on its way through the scheduler; the sink of the responses that its model sends by itself.

    Attributes:
        future: settled exactly once with the response or the error; cancelled when the client gives up.
        deadline_ns: when its queue time-out expires; 0 for never.
        outcome: with preserve_ordering, what it ended with while it waits for those before it.
        ordered: whether it stands in the order that preserve_ordering keeps.
        lengths: those of the padded groups; () where the model declares no padding.
        rank: its place among the priority levels, those that `DELAY` moved back behind the others; 0 goes first.
        taker: the scheduler, where the model may answer the request by itself.
        again: of an iterative sequence, what is executed instead when the model asks for another execution.
        arrived_ns: when the client's request came; before `enqueued_ns` where it waited elsewhere first.
        started_ns: when it was handed to an instance; set together with `taker`, or once the execution has failed.
        uncounted: it only fills a place in a batch and is in no statistics.
        progress: set from the first such response on.
    """

    __slots__ = (
        "again",
        "arrived_ns",
        "batch_size",
        "deadline_ns",
        "enqueued_ns",
        "future",
        "lengths",
        "ordered",
        "outcome",
        "progress",
        "rank",
        "request",
        "shape_key",
        "started_ns",
        "taker",
        "uncounted",
    )

    taker: ResponseTaker
    started_ns: int

    def __init__(
        self,
        request: InferRequest,
        future: RequestFuture,
        batch_size: int,
        shape_key: Hashable,
        enqueued_ns: int,
        lengths: Lengths = (),
    ) -> None:
        self.request = request
        self.future = future
        self.batch_size = batch_size
        self.shape_key = shape_key
        self.enqueued_ns = enqueued_ns
        self.deadline_ns = 0
        self.outcome: InferResponse | ConchError | None = None
        self.ordered = False
        self.lengths = lengths
        self.rank = 0
        self.progress: Progress | None = None
        self.again: InferRequest | None = None
        self.arrived_ns = enqueued_ns
        self.uncounted = False

    def send(self, outcome: Output | ConchError | None, final: bool) -> None:
        """See `conch.backend_api.ResponseSink`."""
        self.taker.on_response(self, outcome, final)

    def when_taken(self, count: int, callback: Callable[[int], None]) -> None:
        """See `conch.backend_api.ResponseSink`."""
        flow = self.future.flow
        if flow is None or self.future.done():
            callback(count)
        else:
            flow.when_taken(count, callback)

    @property
    def trace(self) -> RequestTrace | None:
        """See `conch.backend_api.ResponseSink`."""
        return self.request.trace

    @property
    def cancelled(self) -> bool:
        """Whether the client gave it up."""
        return self.future.cancelled()


class _Level:
    """One priority level: those in time, and behind them those that `DELAY` moved back."""

    __slots__ = ("delayed", "policy", "waiting")

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.waiting: deque[Pending] = deque()
        self.delayed: deque[Pending] = deque()

    def size(self) -> int:
        return len(self.waiting) + len(self.delayed)


#: How many ids of requests a line of the log names.
_NAMED_IDS = 8


def described(batch: Sequence[Pending]) -> str:
    """The requests of a batch for the log: how many, and by which ids their clients know them."""
    real = [pending for pending in batch if not pending.uncounted]
    count = f"{len(real)} request{'s' if len(real) != 1 else ''}"
    ids = [f"'{pending.request.id}'" for pending in real if pending.request.id]
    if not ids:
        return count
    named = ", ".join(ids[:_NAMED_IDS]) + ", ..." * (len(ids) > _NAMED_IDS)
    return f"{count} (id {named})"


class RequestQueue:
    """Waiting requests in the order in which they should be sent.

    Without `batching` (the direct scheduler) there is one level without limit or time-out.

    Attributes:
        size: how many wait.
        timed: how many of them have a time-out to come.
    """

    def __init__(self, batching: DynamicBatching | None) -> None:
        self.size = 0
        self.timed = 0
        self._unlimited: deque[Pending] | None = None  # the one level there is, if it has no limits
        if batching is None:
            self._levels = [_Level(QueuePolicy())]
            self._default_level = 1
            self._unlimited = self._levels[0].waiting
            return
        policies = batching.priority_queue_policy
        self._levels = [
            _Level(policies.get(level, batching.default_queue_policy))
            for level in range(1, max(1, batching.priority_levels) + 1)
        ]
        self._default_level = batching.default_priority_level or 1
        policy = self._levels[0].policy
        if len(self._levels) == 1 and not policy.max_queue_size and not policy.default_timeout_microseconds:
            self._unlimited = self._levels[0].waiting

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Pending]:
        if self._unlimited is not None:
            return iter(self._unlimited)
        if len(self._levels) == 1 and not self._levels[0].delayed:
            return iter(self._levels[0].waiting)
        return (pending for level in self._levels for part in (level.waiting, level.delayed) for pending in part)

    def push(self, pending: Pending) -> None:
        """Queue a request at its priority (an unknown priority takes the default level).

        As in Triton, a request may shorten the default time-out where that is allowed, but not set one where there is
        none.

        Raises:
            RejectedError: the level's `max_queue_size` is reached.
        """
        if self._unlimited is not None:
            self._unlimited.append(pending)
            self.size += 1
            return
        request = pending.request
        number = request.priority if 0 < request.priority <= len(self._levels) else self._default_level
        level = self._levels[number - 1]
        policy = level.policy
        if policy.max_queue_size and level.size() >= policy.max_queue_size:
            raise RejectedError(f"{request_prefix(request.id)}Exceeds maximum queue size")
        timeout_us = policy.default_timeout_microseconds
        if policy.allow_timeout_override and 0 < request.timeout_us < timeout_us:
            timeout_us = request.timeout_us
        if timeout_us:
            pending.deadline_ns = pending.enqueued_ns + timeout_us * 1000
            self.timed += 1
        pending.rank = 2 * (number - 1)
        level.waiting.append(pending)
        self.size += 1

    def take(self, count: int) -> list[Pending]:
        """Remove and return the first `count` requests."""
        unlimited = self._unlimited
        if unlimited is not None:
            if count == 1 and unlimited:
                self.size -= 1
                return [unlimited.popleft()]
            count = min(count, self.size)
            self.size -= count
            return [unlimited.popleft() for _ in range(count)]
        taken: list[Pending] = []
        for level in self._levels:
            for part in (level.waiting, level.delayed):
                while part and len(taken) < count:
                    pending = part.popleft()
                    if pending.deadline_ns and part is level.waiting:
                        self.timed -= 1
                    taken.append(pending)
        self.size -= len(taken)
        return taken

    def pick(self, positions: Sequence[int]) -> list[Pending]:
        """Remove and return the requests at these positions (ascending, counted as iteration goes)."""
        wanted = set(positions)
        reach = positions[-1] + 1 if positions else 0
        picked: list[Pending] = []
        position = 0
        for level in self._levels:
            for part in (level.waiting, level.delayed):
                kept: list[Pending] = []
                while part and position < reach:
                    pending = part.popleft()
                    if position not in wanted:
                        kept.append(pending)
                    else:
                        if pending.deadline_ns and part is level.waiting:
                            self.timed -= 1
                        picked.append(pending)
                    position += 1
                part.extendleft(reversed(kept))
        self.size -= len(picked)
        return picked

    def expire(self, now_ns: int) -> list[Pending]:
        """Apply time-outs: returns the requests to reject; those of a DELAY level move behind their level's others."""
        if not self.timed:
            return []
        rejected: list[Pending] = []
        for level in self._levels:
            if not any(0 < pending.deadline_ns <= now_ns for pending in level.waiting):
                continue
            kept: deque[Pending] = deque()
            for pending in level.waiting:
                if not 0 < pending.deadline_ns <= now_ns:
                    kept.append(pending)
                    continue
                self.timed -= 1
                if level.policy.timeout_action == "DELAY":
                    pending.rank += 1
                    level.delayed.append(pending)
                else:
                    rejected.append(pending)
            level.waiting = kept
        self.size -= len(rejected)
        return rejected

    def next_deadline_ns(self) -> int:
        """The earliest time-out still to come; 0 for none."""
        if not self.timed:
            return 0
        return min(
            (pending.deadline_ns for level in self._levels for pending in level.waiting if pending.deadline_ns),
            default=0,
        )

    def discard_settled(self) -> list[Pending]:
        """Remove and return the requests whose future is done already (clients that gave up)."""
        gone: list[Pending] = []
        for level in self._levels:
            for name in ("waiting", "delayed"):
                part: deque[Pending] = getattr(level, name)
                if any(pending.future.done() for pending in part):
                    done = [pending for pending in part if pending.future.done()]
                    if name == "waiting":
                        self.timed -= sum(1 for pending in done if pending.deadline_ns)
                    kept = [pending for pending in part if not pending.future.done()]
                    part.clear()
                    part.extend(kept)
                    gone += done
        self.size -= len(gone)
        return gone
