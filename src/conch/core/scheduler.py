"""Brings waiting requests to idle instances: the direct scheduler and the dynamic batcher.

Everything runs in callbacks on the event loop, whose thread alone touches this state: there are no locks. Decisions
come from `conch.core.batching`; this module only acts on them. A request ends exactly once: with its response, an
error, a time-out, or because its client gave up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from conch.backend_api import BatchFuture, BatchResult, Instance, Output, Unanswered
from conch.config.padding import Padding, read_padding
from conch.config.schema import ModelConfig
from conch.core.batch_hold import NO_HOLDS, BatchHold, Holds
from conch.core.batching import BatchPolicy, plan_batch, plan_padded_batch
from conch.core.clock import Clock, Timer
from conch.core.draining import Drain
from conch.core.open_requests import OpenRequests
from conch.core.padding import cut_response, longest_of, pad_request
from conch.core.queue import Pending, Progress, RequestFuture, RequestQueue, described
from conch.core.regrouping import Regrouping
from conch.core.stats import ModelStats, PaddingStat
from conch.core.time_out_log import TimeOutLog
from conch.core.workers import Worker, Workers
from conch.errors import (
    BackendError,
    CancelledError,
    ConchError,
    FailureReason,
    InstanceDiedError,
    InternalError,
    RejectedError,
    UnavailableError,
)
from conch.inference import InferRequest, InferResponse

logger = logging.getLogger("conch.core.scheduler")


def _tell_all(answered: list[RequestFuture]) -> None:
    for future in answered:
        if future.on_settled is not None:
            future.on_settled(future)


class Scheduler:
    """Owns a model version's queue and instances.

    Args:
        respond: makes the response to a request out of what the backend answered; its errors become the request's.
        holds: how many requests to wait for before the first batch, for tests of schedulers.

    Attributes:
        on_death: called when an instance has died, before the requests that died with it end.
    """

    on_death: Callable[[ConchError], None] | None = None

    def __init__(
        self,
        config: ModelConfig,
        instances: Sequence[tuple[str, Instance]],
        stats: ModelStats,
        respond: Callable[[Pending, Output], InferResponse],
        clock: Clock,
        holds: Holds = NO_HOLDS,
    ) -> None:
        self._hold = BatchHold(holds.queued)
        batching = config.dynamic_batching
        self._policy = BatchPolicy.of(config.max_batch_size, batching) if batching and config.max_batch_size else None
        self._padding = read_padding(config)
        at_once = self._policy is not None and not self._policy.max_delay_ns and self._padding is None
        self._regrouping = Regrouping() if at_once else None
        self._takes_lone = at_once or self._policy is None
        if self._padding is not None:
            stats.padding = PaddingStat()
        self._ordered = bool(batching and batching.preserve_ordering) and not config.decoupled
        self._queue = RequestQueue(batching)
        self._time_outs = TimeOutLog(config.name, clock)
        self._stats = stats
        self._respond = respond
        self._clock = clock
        self._workers = Workers(instances, stats, clock, self._on_death, self._dispatch, self._on_all_down)
        self._idle = self._workers.idle
        self._open = OpenRequests(config.decoupled, stats, respond, self._finish, clock)
        self._order: deque[Pending] = deque()
        self._loop = asyncio.get_running_loop()
        self._dispatch_planned = False
        self._timer: Timer | None = None
        self._timer_ns = 0
        self._unsettled = 0
        self._batch_of_one = False
        self._drain = Drain()
        self._closed = False

    @property
    def in_flight(self) -> int:
        """Requests submitted and not yet settled."""
        return self._unsettled

    @property
    def healthy(self) -> bool:
        """Whether at least one instance can execute."""
        return self._workers.healthy

    def submit(self, pending: Pending) -> None:
        """Take a request; its future is settled later.

        Raises:
            RejectedError: its queue is full.
            UnavailableError: the scheduler is closed.
            BackendError: every instance is down and did not come back at the last attempt.
        """
        if self._closed:
            raise UnavailableError(
                "Server is stopping, scheduler for model has stopped accepting new inference requests"
            )
        if not self._idle and (down := self._workers.down) is not None:
            raise BackendError(down.message, down.code)
        try:
            self._queue.push(pending)
        except RejectedError as error:
            self._stats.record_failure(error.reason, 0)
            raise
        self._stats.pending_count += 1
        self._unsettled += 1
        if self._regrouping is not None:
            self._regrouping.came()
        if self._idle and not self._dispatch_planned:
            self._dispatch_planned = True
            self._loop.call_soon(self._dispatch)
        elif pending.deadline_ns and not self._idle:
            self._arm_timer(pending.deadline_ns)
        pending.future.on_cancel = self._on_cancel

    async def drain(self) -> None:
        """Wait until every submitted request has ended."""
        await self._drain.wait(lambda: self._unsettled)

    async def close(self) -> None:
        """Refuse what still waits, stop restarting, close the instances. Requests being executed are failed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._workers.stop_reviving()
        error = UnavailableError("Server is stopping, the request was not executed")
        for pending in self._queue.take(len(self._queue)):
            self._stats.pending_count -= 1
            self._fail(pending, error)
        await self._workers.close()

    async def set_instances(self, instances: Sequence[tuple[str, Instance]]) -> None:
        """Execute on these from now on. Those that are not among them end what they execute, and are closed."""
        leaving = self._workers.replace(instances)
        self._dispatch()
        await self._workers.let_go(leaving)

    def _on_cancel(self) -> None:
        for pending in self._queue.discard_settled():
            self._stats.pending_count -= 1
            self._stats.record_failure(FailureReason.CANCELED, self._clock.monotonic_ns() - pending.enqueued_ns)
            self._ended(pending)

    def _dispatch(self) -> None:
        """Send batches to idle instances until nothing may be sent; then set the timer for what comes next."""
        self._dispatch_planned = False
        queue = self._queue
        if self._hold.active and self._hold.keeps(queue.size):
            return
        now_ns = self._clock.monotonic_ns()
        wake_ns = 0
        if queue.timed:
            expired = queue.expire(now_ns)
            if expired:
                self._time_outs.tell(expired)
            for pending in expired:
                self._stats.pending_count -= 1
                self._fail(pending, RejectedError("Request timeout expired"))
            wake_ns = queue.next_deadline_ns()
        regrouping = self._regrouping
        if regrouping is not None and regrouping.awaited and self._regroups(regrouping, now_ns):
            if queue.size:
                self._arm_timer(min(wake_ns or regrouping.until_ns, regrouping.until_ns))
            return
        while self._idle and queue.size:
            if self._policy is None or (queue.size == 1 and self._takes_lone):
                batch, later_ns = queue.take(1), 0
            elif self._padding is None:
                decision = plan_batch(queue, self._policy, now_ns)
                batch, later_ns = queue.take(decision.take), decision.wait_until_ns
            else:
                selection = plan_padded_batch(queue, self._policy, self._padding, now_ns)
                batch, later_ns = queue.pick(selection.positions), selection.wait_until_ns
            if not batch:
                wake_ns = min(wake_ns or later_ns, later_ns)
                break
            self._stats.pending_count -= len(batch)
            self._execute(self._idle.pop(), batch, now_ns)
        if wake_ns and queue.size:
            self._arm_timer(wake_ns)

    def _regroups(self, regrouping: Regrouping, now_ns: int) -> bool:
        """Whether the only idle instance waits for those who were just answered, since its batch has room for them."""
        assert self._policy is not None
        waits = regrouping.waits(now_ns)
        return waits and len(self._idle) == 1 and self._queue.size < self._policy.max_batch_size

    def _arm_timer(self, at_ns: int) -> None:
        if self._timer is not None:
            if self._timer_ns <= at_ns:
                return
            self._timer.cancel()
        self._timer_ns = at_ns
        self._timer = self._clock.call_at(at_ns, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._dispatch()

    def _execute(self, worker: Worker, batch: list[Pending], now_ns: int) -> None:
        if self._ordered:
            for pending in batch:
                pending.ordered = True
            self._order.extend(batch)
        try:
            requests = [pending.request for pending in batch]
            if self._padding is not None:
                running = worker.instance.execute(self._padded(batch, self._padding))
            elif worker.streaming is not None:
                for pending in batch:
                    pending.taker = self._open
                    pending.started_ns = now_ns
                running = worker.streaming.execute_into(requests, batch)
            else:
                running = worker.instance.execute(requests)
        except ConchError as error:
            self._loop.call_soon(self._settle_failed_batch, worker, batch, now_ns, error)
            return
        on_executed = partial(self._on_executed, worker, batch, now_ns)
        if type(running) is BatchFuture and not running.done():
            running.on_settled = on_executed
        else:
            asyncio.ensure_future(running).add_done_callback(on_executed)

    def _padded(self, batch: list[Pending], padding: Padding) -> list[InferRequest]:
        """The batch's requests as long as the longest of them."""
        longest = longest_of([pending.lengths for pending in batch])
        real = sum(pending.batch_size * padding.tokens(pending.lengths) for pending in batch)
        padded = sum(pending.batch_size for pending in batch) * padding.tokens(longest)
        self._stats.record_padding(real, padded - real)
        return [
            pending.request if pending.lengths == longest else pad_request(pending.request, longest, padding)
            for pending in batch
        ]

    def _on_executed(
        self, worker: Worker, batch: list[Pending], started_ns: int, done: asyncio.Future[BatchResult]
    ) -> None:
        if done.cancelled():
            error = InternalError("execution was cancelled by the server")
            self._settle_failed_batch(worker, batch, started_ns, error)
            return
        failure = done.exception()
        if failure is not None:
            if not isinstance(failure, ConchError):
                logger.error("instance %s failed unexpectedly", worker.label, exc_info=failure)
                failure = InternalError(f"instance '{worker.label}' failed: {failure}")
            self._settle_failed_batch(worker, batch, started_ns, failure)
            return
        # The instance gets its next batch before this one is answered: it computes while the answers are encoded.
        self._workers.release(worker)
        if self._regrouping is not None:
            now_ns = self._clock.monotonic_ns()
            self._regrouping.executed(len(batch), now_ns - started_ns, now_ns)
        if self._queue.size:
            self._dispatch()
        owed = self._settle_batch(batch, started_ns, done.result())
        if owed:
            worker.owes = [future for future in (*worker.owes, *owed) if not future.done()]

    def _settle_batch(self, batch: list[Pending], started_ns: int, result: BatchResult) -> Sequence[RequestFuture]:
        """Answer the requests of a batch.

        Returns:
            Those that the model is to answer by itself.
        """
        now_ns = self._clock.monotonic_ns()
        compute = (result.compute_input_ns, result.compute_infer_ns, result.compute_output_ns)
        stats = self._stats
        self._batch_of_one = len(batch) == 1
        rows = batch[0].batch_size if self._batch_of_one else sum([pending.batch_size for pending in batch])
        stats.record_execution(rows, compute, self._clock.epoch_ms())
        if len(result.outputs) != len(batch):
            text = f"model answered {len(result.outputs)} of {len(batch)} requests"
            for pending in batch:
                self._fail(pending, BackendError(text))
            return ()
        padding = self._padding
        longest = longest_of([pending.lengths for pending in batch]) if padding is not None else ()
        respond, ordered = self._respond, self._ordered
        answered: list[RequestFuture] = []
        owed: list[RequestFuture] = []
        for pending, output in zip(batch, result.outputs, strict=True):
            if pending.progress is not None or type(output) is not Output:
                pending.started_ns = started_ns
                self._leave(pending, output, compute)
                if output is Unanswered.OPEN:
                    owed.append(pending.future)
                continue
            try:
                response = respond(pending, output)
                if padding is not None:
                    response = cut_response(response, pending.lengths, longest, padding)
            except ConchError as error:
                self._fail(pending, error)
                continue
            if not pending.uncounted:
                stats.record_success(
                    pending.batch_size, now_ns - pending.arrived_ns, started_ns - pending.arrived_ns, compute
                )
            future = pending.future
            future.compute = compute
            if pending.request.trace is not None:
                pending.request.trace.executed(started_ns, now_ns, compute)
            if ordered:
                self._finish(pending, response)
                continue
            if not future.done():
                future.set_result(response)
                answered.append(future)
            self._ended(pending)
        self._tell(answered)
        return owed

    def _tell(self, answered: list[RequestFuture]) -> None:
        """Let the wires know that these requests are settled.

        A lone answer goes out at once. Those of a larger batch wait a turn: each write wakes its client, and sixteen
        clients in the way of this loop were measured to cost a sixth of the throughput.
        """
        if self._batch_of_one:
            _tell_all(answered)
        elif answered:
            self._loop.call_soon(_tell_all, answered)

    def _settle_failed_batch(self, worker: Worker, batch: list[Pending], started_ns: int, error: ConchError) -> None:
        compute = (0, self._clock.monotonic_ns() - started_ns, 0)
        self._stats.record_execution(sum(pending.batch_size for pending in batch), compute, self._clock.epoch_ms())
        died = isinstance(error, InstanceDiedError)
        logger.error(
            "%s failed%s: %s", described(batch), ", restarting" if died else "", error.message,
            extra={"instance": worker.label},
        )  # fmt: skip
        if died:
            self._workers.revive(worker, error)
        else:
            self._workers.release(worker)
        for pending in batch:
            pending.started_ns = started_ns
            self._leave(pending, error, compute)
        if self._queue.size and self._idle:
            self._dispatch()

    def _leave(
        self, pending: Pending, outcome: Output | ConchError | Unanswered, compute: tuple[int, int, int]
    ) -> None:
        """The execution ended of a request that its model answers by itself, or that has no output."""
        progress = pending.progress
        if progress is None:
            progress = pending.progress = Progress()
        progress.executing = False
        progress.compute = compute
        if progress.settled:
            if progress.succeeded_ns:
                self._open.on_executed(pending, compute, progress.succeeded_ns)
            self._ended(pending)
        elif outcome is Unanswered.RESCHEDULED:
            self._requeue(pending)
        elif not isinstance(outcome, Unanswered):
            self._open.on_response(pending, outcome, final=True)

    def _requeue(self, pending: Pending) -> None:
        """Let a request wait for another execution, as if it had just come."""
        pending.deadline_ns = 0
        try:
            if pending.future.done():
                raise CancelledError("request was cancelled")
            if self._closed:
                raise UnavailableError("Server is stopping, the request was not executed again")
            pending.request = pending.again or pending.request
            self._queue.push(pending)
        except ConchError as error:
            self._open.on_response(pending, error, final=True)
            return
        if pending.progress is not None:
            pending.progress.executing = True
        self._stats.pending_count += 1
        if self._regrouping is not None:
            self._regrouping.came()
        if self._idle and not self._dispatch_planned:
            self._dispatch_planned = True
            self._loop.call_soon(self._dispatch)

    def _fail(self, pending: Pending, error: ConchError) -> None:
        if not pending.uncounted:
            self._stats.record_failure(error.reason, self._clock.monotonic_ns() - pending.arrived_ns)
        self._finish(pending, error)

    def _finish(self, pending: Pending, outcome: InferResponse | ConchError) -> None:
        """Settle a request, or with preserve_ordering hold its outcome until those before it are settled."""
        if not pending.ordered:
            self._settle(pending, outcome)
            return
        pending.outcome = outcome
        while self._order and (first := self._order[0].outcome) is not None:
            self._settle(self._order.popleft(), first)

    def _settle(self, pending: Pending, outcome: InferResponse | ConchError) -> None:
        future = pending.future
        if not future.done():
            if isinstance(outcome, InferResponse):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
            self._tell([future])
        if pending.progress is None or not pending.progress.executing:
            self._ended(pending)

    def _ended(self, pending: Pending) -> None:
        self._unsettled -= 1
        if not self._unsettled and self._drain.awaited:
            self._drain.tell()

    def _on_death(self, error: ConchError) -> None:
        if self.on_death is not None:
            self.on_death(error)

    def _on_all_down(self, error: ConchError) -> None:
        for pending in self._queue.take(len(self._queue)):
            self._stats.pending_count -= 1
            self._fail(pending, BackendError(error.message, error.code))
