"""Brings the requests of a sequence to one instance, in order, and tells the model where in the sequence they stand.

Every instance has a lane: a scheduler of its own, which executes, restarts and counts. Which sequence has which place
is decided by `conch.core.sequence`, when the places send by `conch.core.sequence_strategies`; this module only acts on
it, in callbacks on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from itertools import count

import msgspec

from conch.backend_api import Instance, Output
from conch.config.complete import SEQUENCE_IDLE_US
from conch.config.schema import DirectSequences, DynamicBatching, ModelConfig, OldestSequences, SequenceBatching
from conch.core.batch_hold import NO_HOLDS, Holds
from conch.core.clock import Clock, Timer
from conch.core.draining import Drain
from conch.core.queue import Pending, RequestFuture, nothing
from conch.core.scheduler import Scheduler
from conch.core.scheduling import Respond
from conch.core.sequence import Backlog, SequenceTable
from conch.core.sequence_controls import SequenceControls
from conch.core.sequence_lane import Entry, Lane, Sent, Slot
from conch.core.sequence_states import SequenceStates
from conch.core.stats import ModelStats
from conch.core.time_out_log import TimeOutLog
from conch.errors import (
    ConchError,
    FailureReason,
    InstanceDiedError,
    InvalidArgumentError,
    RejectedError,
    UnavailableError,
)
from conch.inference import SEQUENCE_START, InferRequest, InferResponse

logger = logging.getLogger("conch.core.sequence_scheduler")

#: Later than every moment.
_NEVER = 1 << 63

_STOPPED = "Server is stopping, scheduler for model has stopped accepting new inference requests"


class SequenceScheduler(ABC):
    """Owns the sequences of a model version and, through its lanes, the instances. Strategies say when places send.

    Args:
        states: the model's states, if it has any.
        holds: what each lane keeps back until enough requests wait, for tests of schedulers.
    """

    def __init__(
        self,
        config: ModelConfig,
        instances: Sequence[tuple[str, Instance]],
        states: SequenceStates,
        stats: ModelStats,
        respond: Respond,
        clock: Clock,
        holds: Holds = NO_HOLDS,
    ) -> None:
        batching = config.sequence_batching or SequenceBatching(DirectSequences(), SEQUENCE_IDLE_US)
        self._name = config.name
        self._iterative = batching.iterative_sequence
        self._idle_ns = batching.max_sequence_idle_microseconds * 1000
        self._decoupled = config.decoupled
        self._controls = SequenceControls(config, batching)
        self._states = states
        self._stats = stats
        self._respond = respond
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._time_outs = TimeOutLog(config.name, clock)
        self._strategy = batching.strategy
        places, lane_batching = _places(config, batching.strategy)
        inner = msgspec.structs.replace(config, dynamic_batching=lane_batching, parameters={})
        self._lanes = [Lane(Scheduler(inner, [labelled], stats, self._answer, clock, holds)) for labelled in instances]
        self._table: SequenceTable[Entry] = SequenceTable(len(self._lanes), places)
        self._slots = [
            Slot(number, self._lanes[number % len(self._lanes)]) for number in range(places * len(self._lanes))
        ]
        for slot in self._slots:
            slot.lane.slots.append(slot)
        for lane in self._lanes:
            lane.scheduler.on_death = partial(self._on_death, lane)
        self._numbers = count(1)
        self._unsettled = 0
        self._drain = Drain()
        self._timer: Timer | None = None
        self._timer_ns = _NEVER
        self._closed = False

    @property
    def in_flight(self) -> int:
        """Requests submitted and not yet settled."""
        return self._unsettled

    @property
    def healthy(self) -> bool:
        """Whether at least one instance can execute."""
        return any(lane.scheduler.healthy for lane in self._lanes)

    def submit(self, pending: Pending) -> None:
        """Take a request; its future is settled later.

        Raises:
            UnavailableError: the scheduler is closed.
            InvalidArgumentError: it belongs to no sequence that could go on with it.
        """
        if self._closed:
            raise UnavailableError(_STOPPED)
        entry = self._entry(pending)
        self._unsettled += 1
        self._stats.pending_count += 1
        pending.future.on_cancel = partial(self._on_cancel, entry)
        timeout_us = pending.request.timeout_us
        deadline_ns = self._clock.monotonic_ns() + timeout_us * 1000 if timeout_us else 0
        number = self._table.enter(entry.correlation_id, entry, end=entry.end, deadline_ns=deadline_ns)
        if number is not None:
            slot = self._slots[number]
            slot.sequence = None if entry.end else entry.correlation_id
            slot.queue.append(entry)
            self._look_at(slot)
        elif deadline_ns:
            self._plan_timer(deadline_ns)

    async def drain(self) -> None:
        """Wait until every submitted request has ended."""
        await self._drain.wait(lambda: self._unsettled)

    async def close(self) -> None:
        """Refuse what still waits, close the instances. Requests being executed are failed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        error = UnavailableError("Server is stopping, the request was not executed")
        waiting = [entry for backlog in self._table.clear() for entry in backlog.entries]
        for slot in self._slots:
            waiting += slot.queue
            slot.queue.clear()
        for entry in waiting:
            self._refuse(entry, error)
        await asyncio.gather(*(lane.scheduler.close() for lane in self._lanes))

    def _entry(self, pending: Pending) -> Entry:
        request = pending.request
        if pending.batch_size > 1:
            raise InvalidArgumentError(
                f"inference request to model '{self._name}' must specify batch-size 1 due to requirements of sequence "
                "batcher"
            )
        correlation_id = request.correlation_id
        flags = request.flags
        if not correlation_id and self._iterative:
            correlation_id = str(next(self._numbers)) if self._controls.textual else next(self._numbers)
            flags |= SEQUENCE_START
        if not correlation_id:
            raise InvalidArgumentError(
                f"inference request to model '{self._name}' must specify a non-zero or non-empty correlation ID"
            )
        is_open = self._table.is_open(correlation_id)
        starts = bool(flags & SEQUENCE_START)
        if not starts and not is_open:
            raise InvalidArgumentError(
                f"inference request for sequence {correlation_id} to model '{self._name}' must specify the START flag "
                "on the first request of the sequence"
            )
        self._controls.check(correlation_id)
        if starts and is_open:
            logger.warning(
                "sequence %s for model '%s' has a conflict. The previous sequence did not end before this sequence "
                "start. Previous sequence will be terminated early.", correlation_id, self._name,
            )  # fmt: skip
        entry = Entry(pending, correlation_id, flags)
        if self._iterative:
            entry.end = True  # its place is free when the model is done with it
        return entry

    @abstractmethod
    def _look_at(self, slot: Slot) -> None:
        """Send what the place has to send, or plan to."""

    @abstractmethod
    def _go_on(self, slot: Slot) -> None:
        """What was sent for the place has ended: send what comes next."""

    def _send(self, slot: Slot, entry: Entry) -> None:
        slot.in_flight = entry.sent = True
        self._stats.pending_count -= 1
        request = entry.pending.request
        if entry.start:
            slot.states = self._states.initial
        request = self._states.into(request, slot.states)
        again: InferRequest | None = None
        if self._iterative:
            request = msgspec.structs.replace(request, correlation_id=entry.correlation_id, flags=entry.flags)
            again = self._controlled(msgspec.structs.replace(request, flags=0), 0)
        sent = Sent(self._controlled(request, entry.flags), slot, entry, entry.pending, self._clock.monotonic_ns())
        sent.again = again
        if self._decoupled:
            sent.future.on_response = partial(self._on_response, entry)
        self._submit(sent)

    def _controlled(self, request: InferRequest, flags: int) -> InferRequest:
        controls = self._controls.tensors(request.correlation_id, flags)
        return msgspec.structs.replace(request, inputs=(*request.inputs, *controls)) if controls else request

    def _submit(self, sent: Sent) -> None:
        sent.future.on_settled = partial(self._on_settled, sent)
        try:
            sent.slot.lane.scheduler.submit(sent)
        except ConchError as error:
            sent.future.set_exception(error)
            self._loop.call_soon(self._on_settled, sent, sent.future)

    def _skip(self, slot: Slot, entry: Entry) -> None:
        """Pass over a request that its client gave up; the sequence still starts and ends with it."""
        if entry.start:
            slot.states = self._states.initial
        if entry.end:
            self._release(slot)
        else:
            slot.idle_since_ns = self._clock.monotonic_ns()
            self._plan_timer(slot.idle_since_ns + self._idle_ns)

    def _release(self, slot: Slot) -> None:
        """Give the place to the sequence that has waited longest; its first request still waits for what is under
        way."""
        slot.sequence = None
        backlog = self._table.release(slot.number)
        if backlog is not None:
            slot.queue.extend(backlog.entries)
            slot.sequence = None if backlog.entries[-1].end else backlog.correlation_id
            slot.idle_since_ns = self._clock.monotonic_ns()

    def _answer(self, sent: Pending, output: Output) -> InferResponse:
        assert isinstance(sent, Sent)  # nothing else is submitted to a lane
        if sent.entry is None:
            return InferResponse(self._name, "", "", ())
        sent.slot.states = self._states.after(sent.slot.states, output)
        return self._respond(sent.entry.pending, output)

    def _on_response(self, entry: Entry, response: InferResponse | ConchError) -> None:
        future = entry.pending.future
        if future.on_response is not None and not future.done():
            future.on_response(response)

    def _on_settled(self, sent: Sent, done: asyncio.Future[InferResponse]) -> None:
        slot, entry = sent.slot, sent.entry
        failure = done.exception()
        sent.future.on_settled = sent.future.on_response = None  # they would keep it in a cycle of references
        if entry is not None:
            slot.in_flight = False
            slot.idle_since_ns = self._clock.monotonic_ns()
            self._settle(sent, entry.pending.future, failure)
            if isinstance(failure, InstanceDiedError):
                self._lose(slot, failure)
            if slot.sequence is not None and slot.idle_since_ns + self._idle_ns < self._timer_ns:
                self._plan_timer(slot.idle_since_ns + self._idle_ns)
        if not self._closed:
            self._go_on(slot)

    def _settle(self, sent: Sent, future: RequestFuture, failure: BaseException | None) -> None:
        """Tell the client of a request what became of what was sent for it."""
        if not future.done():
            future.compute = sent.future.compute
            if failure is None:
                future.set_result(sent.future.result())
            else:
                future.set_exception(failure)
            if future.on_settled is not None:
                future.on_settled(future)
        self._ended(future)

    def _on_death(self, lane: Lane, error: ConchError) -> None:
        for slot in lane.slots:
            self._lose(slot, error)

    def _lose(self, slot: Slot, error: ConchError) -> None:
        """End a sequence whose instance died, and with it what the model knew of it; not where conch keeps the state.

        A request under way ends first, and one that starts another sequence is as good as ever.
        """
        started = not slot.queue[0].start if slot.queue else slot.sequence is not None
        if self._states.initial or self._closed or slot.in_flight or not started:
            return
        logger.warning("a sequence of model '%s' ended with its instance", self._name)
        for entry in slot.queue:
            self._refuse(entry, error)
        slot.queue.clear()
        if slot.sequence is not None:
            self._table.close(slot.sequence)
        self._release(slot)
        self._look_at(slot)

    def _refuse(self, entry: Entry, error: ConchError) -> None:
        """End a request that was not sent."""
        if entry.given_up:
            return
        self._stats.pending_count -= 1
        self._stats.record_failure(error.reason, self._clock.monotonic_ns() - entry.pending.enqueued_ns)
        future = entry.pending.future
        future.set_exception(error)
        if future.on_settled is not None:
            future.on_settled(future)
        self._ended(future)

    def _on_cancel(self, entry: Entry) -> None:
        if not entry.sent:
            entry.given_up = True
            self._stats.pending_count -= 1
            waited_ns = self._clock.monotonic_ns() - entry.pending.enqueued_ns
            self._stats.record_failure(FailureReason.CANCELED, waited_ns)
            self._ended(entry.pending.future)

    def _ended(self, future: RequestFuture) -> None:
        future.on_cancel = nothing
        self._unsettled -= 1
        if not self._unsettled and self._drain.awaited:
            self._drain.tell()

    def _plan_timer(self, at_ns: int) -> None:
        if self._closed or self._timer_ns <= at_ns:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = at_ns
        self._timer = self._clock.call_at(at_ns, self._on_timer)

    def _on_timer(self) -> None:
        """Give up what waited too long for a slot, end what is idle."""
        self._timer = None
        self._timer_ns = _NEVER
        now_ns = self._clock.monotonic_ns()
        error = RejectedError("timeout of the corresponding sequence has been expired")
        for backlog in self._table.expire(now_ns):
            self._time_outs.tell([entry.pending for entry in backlog.entries])
            self._refuse_all(backlog, error)
        next_ns = self._table.next_deadline_ns()
        for slot in self._slots:
            if slot.sequence is None or slot.queue or slot.in_flight:
                continue
            idle_at_ns = slot.idle_since_ns + self._idle_ns
            if idle_at_ns > now_ns:
                next_ns = min(next_ns or idle_at_ns, idle_at_ns)
                continue
            logger.info("sequence %s of model '%s' was idle for too long and is ended", slot.sequence, self._name)
            self._table.close(slot.sequence)
            self._release(slot)
            self._look_at(slot)
        if next_ns:
            self._plan_timer(next_ns)

    def _refuse_all(self, backlog: Backlog[Entry], error: ConchError) -> None:
        for entry in backlog.entries:
            self._refuse(entry, error)


def _places(config: ModelConfig, strategy: DirectSequences | OldestSequences) -> tuple[int, DynamicBatching]:
    """How many places a lane has, and how its scheduler puts their requests together: a direct batch comes complete."""
    if not isinstance(strategy, OldestSequences):
        return max(1, config.max_batch_size), DynamicBatching()
    return strategy.max_candidate_sequences, DynamicBatching(
        preferred_batch_size=strategy.preferred_batch_size,
        max_queue_delay_microseconds=strategy.max_queue_delay_microseconds,
        preserve_ordering=strategy.preserve_ordering,
    )
