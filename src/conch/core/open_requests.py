"""Requests that their model answers by itself: any number of responses, at any time, until one is the last."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from conch.backend_api import Output
from conch.core.clock import Clock
from conch.core.queue import Pending, Progress
from conch.core.scheduling import Respond
from conch.core.stats import ModelStats, ResponseKind
from conch.errors import ConchError
from conch.inference import InferResponse


class OpenRequests:
    """Takes such responses for a scheduler.

    Args:
        decoupled: whether the model may send more than one response to a request.
        finish: ends a request, whose success or failure is counted already.
    """

    def __init__(
        self,
        decoupled: bool,
        stats: ModelStats,
        respond: Respond,
        finish: Callable[[Pending, InferResponse | ConchError], None],
        clock: Clock,
    ) -> None:
        self._decoupled = decoupled
        self._stats = stats
        self._respond = respond
        self._finish = finish
        self._clock = clock

    def on_response(self, pending: Pending, outcome: Output | ConchError | None, final: bool) -> None:
        """See `conch.backend_api.ResponseSink.send`.

        Only a decoupled model's responses go out as they come; that of another one waits for the end of the request.
        """
        progress = pending.progress
        if progress is None:
            progress = pending.progress = Progress()
        if progress.settled:
            return
        came_ns = self._clock.monotonic_ns()
        given_up = pending.future.done()
        answer: InferResponse | ConchError | None
        try:
            answer = self._respond(pending, outcome) if isinstance(outcome, Output) else outcome
        except ConchError as error:
            answer = error
        if final:
            progress.settled = True
            self._end(pending, progress, answer or progress.held, came_ns)
        elif not self._decoupled:
            progress.held = answer
        elif answer is not None and pending.future.on_response is not None and not given_up:
            pending.future.on_response(answer)
        if self._decoupled and not pending.uncounted:
            kind: ResponseKind = "cancel" if given_up else _kind(answer)
            self._count_response(pending, progress, kind, came_ns, only_end=answer is None)

    def _count_response(
        self, pending: Pending, progress: Progress, kind: ResponseKind, came_ns: int, *, only_end: bool
    ) -> None:
        since_ns = progress.sent_ns or pending.started_ns
        if not progress.sent and not only_end and kind != "cancel":
            self._stats.record_first_response(came_ns - pending.arrived_ns)
        self._stats.record_response(progress.sent, kind, came_ns - since_ns, self._clock.monotonic_ns() - came_ns)
        progress.sent += 1
        progress.sent_ns = came_ns

    def _end(
        self, pending: Pending, progress: Progress, answer: InferResponse | ConchError | None, now_ns: int
    ) -> None:
        if pending.request.trace is not None and progress.compute is not None:
            pending.request.trace.executed(pending.started_ns, now_ns, progress.compute)
        if isinstance(answer, ConchError):
            if not pending.uncounted:
                self._stats.record_failure(answer.reason, now_ns - pending.arrived_ns)
            self._finish(pending, answer)
            return
        if answer is None:
            answer = msgspec.structs.replace(self._respond(pending, Output((), {})), empty=True)
        if progress.executing:
            progress.succeeded_ns = now_ns
            if pending.request.trace is not None:
                pending.request.trace.executing()
            pending.future.compute = (0, now_ns - pending.started_ns, 0)
        else:
            compute = progress.compute or (0, now_ns - pending.started_ns, 0)
            self._count_success(pending, compute, now_ns)
            pending.future.compute = compute
        self._finish(pending, answer)

    def on_executed(self, pending: Pending, compute: tuple[int, int, int], answered_ns: int) -> None:
        """The execution has ended of a request that was answered before, at that moment."""
        if pending.request.trace is not None:
            pending.request.trace.executed(pending.started_ns, self._clock.monotonic_ns(), compute)
        self._count_success(pending, compute, answered_ns)

    def _count_success(self, pending: Pending, compute: tuple[int, int, int], ended_ns: int) -> None:
        if not pending.uncounted:
            self._stats.record_success(
                pending.batch_size, ended_ns - pending.arrived_ns, pending.started_ns - pending.arrived_ns, compute
            )


def _kind(answer: InferResponse | ConchError | None) -> ResponseKind:
    if isinstance(answer, ConchError):
        return "fail"
    return "empty_response" if answer is None or not answer.outputs else "success"
