"""Requests that their model answers by itself: any number of responses, at any time, until one is the last."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from conch.backend_api import Output
from conch.core.clock import Clock
from conch.core.queue import Pending, Progress
from conch.core.scheduling import Respond
from conch.core.stats import ModelStats
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
        answer: InferResponse | ConchError | None
        try:
            answer = self._respond(pending, outcome) if isinstance(outcome, Output) else outcome
        except ConchError as error:
            answer = error
        if final:
            progress.settled = True
            self._end(pending, progress, answer or progress.held)
        elif not self._decoupled:
            progress.held = answer
        elif answer is not None and pending.future.on_response is not None and not pending.future.done():
            pending.future.on_response(answer)

    def _end(self, pending: Pending, progress: Progress, answer: InferResponse | ConchError | None) -> None:
        now_ns = self._clock.monotonic_ns()
        if pending.request.trace is not None and progress.compute is not None:
            pending.request.trace.executed(pending.started_ns, now_ns, progress.compute)
        if isinstance(answer, ConchError):
            if not pending.uncounted:
                self._stats.record_failure(answer.reason, now_ns - pending.arrived_ns)
            self._finish(pending, answer)
            return
        if answer is None:
            answer = msgspec.structs.replace(self._respond(pending, Output((), {})), empty=True)
        compute = progress.compute or (0, now_ns - pending.started_ns, 0)
        if not pending.uncounted:
            self._stats.record_success(
                pending.batch_size, now_ns - pending.arrived_ns, pending.started_ns - pending.arrived_ns, compute
            )
        pending.future.compute = compute
        self._finish(pending, answer)
