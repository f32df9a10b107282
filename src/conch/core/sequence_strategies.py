"""The strategies of the sequence batcher: when the places of a lane send, and which requests make a batch.

With `oldest` each place sends as soon as nothing of it is under way, and the lane puts requests of different places
together. With `direct` each place of a lane has its row in every batch, so the places send together.
"""

from __future__ import annotations

from collections.abc import Sequence

from conch.backend_api import Instance
from conch.config.schema import DirectSequences, ModelConfig
from conch.core.batch_hold import NO_HOLDS, BatchHold, Holds
from conch.core.clock import Clock
from conch.core.queue import Pending, RequestFuture
from conch.core.scheduling import Respond
from conch.core.sequence import DirectPolicy, plan_direct_batch
from conch.core.sequence_lane import Lane, Sent, Slot
from conch.core.sequence_scheduler import SequenceScheduler
from conch.core.sequence_states import SequenceStates, zeros
from conch.core.stats import ModelStats
from conch.inference import InferRequest


def sequence_scheduler(
    config: ModelConfig,
    instances: Sequence[tuple[str, Instance]],
    states: SequenceStates,
    stats: ModelStats,
    respond: Respond,
    clock: Clock,
    holds: Holds = NO_HOLDS,
) -> SequenceScheduler:
    """A scheduler of the configuration's strategy; sequences that the model ends itself have no rows of their own."""
    batching = config.sequence_batching
    if batching is not None and (batching.iterative_sequence or not isinstance(batching.strategy, DirectSequences)):
        return OldestScheduler(config, instances, states, stats, respond, clock, Holds(holds.queued))
    return DirectScheduler(config, instances, states, stats, respond, clock, holds)


class OldestScheduler(SequenceScheduler):
    """Sends the next request of a place when the one before has ended."""

    def _look_at(self, slot: Slot) -> None:
        """Send the next request of a place that has none under way, and so on as long as requests end at once."""
        while not slot.in_flight and slot.queue and not self._closed:
            entry = slot.queue.popleft()
            if entry.given_up:
                self._skip(slot, entry)
                continue
            self._send(slot, entry)
            if entry.end:
                self._release(slot)

    _go_on = _look_at


class DirectScheduler(SequenceScheduler):
    """Sends the places of a lane together, with null requests in the rows of those that have nothing to send."""

    def __init__(
        self,
        config: ModelConfig,
        instances: Sequence[tuple[str, Instance]],
        states: SequenceStates,
        stats: ModelStats,
        respond: Respond,
        clock: Clock,
        holds: Holds,
    ) -> None:
        super().__init__(config, instances, states, stats, respond, clock)
        self._hold = BatchHold(holds.queued, holds.backlog)
        strategy = self._strategy
        utilization = strategy.minimum_slot_utilization if isinstance(strategy, DirectSequences) else 0.0
        delay_ns = strategy.max_queue_delay_microseconds * 1000
        self._policy = DirectPolicy(max(1, config.max_batch_size), utilization, delay_ns)

    def submit(self, pending: Pending) -> None:
        """See `SequenceScheduler.submit`; while batches are kept back, it may be the one that all lanes wait for."""
        super().submit(pending)
        if self._hold.active:
            for slot in self._slots:
                self._look_at(slot)

    def _look_at(self, slot: Slot) -> None:
        """Plan one look at all places of the lane for this turn of the event loop."""
        lane = slot.lane
        if not lane.planned and not lane.running:
            lane.planned = True
            self._loop.call_soon(self._fill, lane)

    def _release(self, slot: Slot) -> None:
        super()._release(slot)
        if slot.queue:
            self._look_at(slot)

    def _fill(self, lane: Lane) -> None:
        """Send the next batch of a lane, if it is worth it."""
        lane.planned = False
        if self._closed or lane.running or self._held():
            return
        fronts: list[Pending | None] = []
        for slot in lane.slots:
            waiting = slot.queue
            while waiting and waiting[0].given_up:
                self._skip(slot, waiting.popleft())
            fronts.append(waiting[0].pending if waiting else None)
        if not any(fronts):
            return
        now_ns = self._clock.monotonic_ns()
        decision = plan_direct_batch(fronts, self._policy, now_ns)
        if not decision.places:
            self._plan_timer(decision.wait_until_ns)
            return
        chosen = list(zip(lane.slots, decision.places, strict=False))
        example = next(
            front for front, goes in zip(fronts, decision.places, strict=False) if front is not None and goes
        )
        lane.running = len(chosen)
        ended: list[Slot] = []
        null_request: InferRequest | None = None
        for slot, goes in chosen:
            if goes:
                entry = slot.queue.popleft()
                self._send(slot, entry)
                if entry.end:
                    ended.append(slot)
            else:
                null_request = null_request or self._null_request(example)
                self._submit(Sent(null_request, slot, None, example, now_ns))
        for slot in ended:
            self._release(slot)

    def _held(self) -> bool:
        if not self._hold.active:
            return False
        return self._hold.keeps(sum(len(slot.queue) for slot in self._slots), self._table.backlog_size)

    def _null_request(self, example: Pending) -> InferRequest:
        request = self._states.into(example.request, self._states.initial)
        inputs = tuple(zeros(tensor.name, tensor.datatype, tensor.shape) for tensor in request.inputs)
        return InferRequest(
            request.model_name, request.model_version, (*inputs, *self._controls.not_ready()), outputs=request.outputs
        )

    def _go_on(self, slot: Slot) -> None:
        lane = slot.lane
        lane.running -= 1
        if lane.running:
            return
        self._fill(lane)
        if not lane.running:
            self._tell(lane)
        elif lane.answered:
            # The instance gets its next batch first: it computes while the answers are encoded.
            lane.plan_telling(self._loop.call_soon(self._tell, lane))

    def _settle(self, sent: Sent, future: RequestFuture, failure: BaseException | None) -> None:
        """Keep an answer for those of its batch, which come in this turn of the loop; not longer than for the next one.

        Failures, and requests that the model answers by itself, wait for nobody.
        """
        if failure is not None or sent.progress is not None or self._closed:
            super()._settle(sent, future, failure)
            return
        lane = sent.slot.lane
        lane.answered.append((sent, future))
        if len(lane.answered) == 1 and lane.running > 1:
            lane.plan_telling(self._loop.call_soon(self._tell, lane))

    def _tell(self, lane: Lane) -> None:
        lane.plan_telling(None)
        answered, lane.answered = lane.answered, []
        settle = super()._settle
        for sent, future in answered:
            settle(sent, future, None)

    def _on_timer(self) -> None:
        super()._on_timer()
        for lane in self._lanes:
            if not lane.running:
                self._fill(lane)
