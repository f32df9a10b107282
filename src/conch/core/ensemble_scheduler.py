"""Runs the requests of an ensemble: each step as soon as its tensors are there, as an ordinary request to its model.

As in the other schedulers everything happens in callbacks on the event loop, and a request ends exactly once. Tensors
are passed on by reference under their new names; there is no task and no queue of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from conch.backend_api import Output
from conch.config.schema import ModelConfig
from conch.core.clock import Clock
from conch.core.ensemble import Plan
from conch.core.ensemble_runs import EnsembleRuns
from conch.core.ensemble_steps import FindModel, sequence_parameters, sum_of
from conch.core.queue import Pending, RequestFuture, nothing
from conch.core.scheduling import Respond
from conch.core.stats import ModelStats
from conch.errors import CancelledError, ConchError, FailureReason
from conch.inference import InferResponse
from conch.tensor import Tensor

logger = logging.getLogger("conch.core.ensemble_scheduler")


class _Run:
    """One request on its way through the steps.

    Attributes:
        tensors: the ensemble's tensors that exist so far, under its own names.
        waits_for: step -> how many of the steps before it have not answered yet.
        running: step -> the request to its model.
        left: steps that have not answered yet.
        compute: the sums of what the steps' executions took: input, infer, output in ns.
        outcome: what it ended with.
        accepted: whether `submit` has returned, so that an error can no longer be raised there.
        times: for verbose logs: step -> when it was started and answered.
    """

    __slots__ = (
        "accepted",
        "compute",
        "left",
        "outcome",
        "pending",
        "plan",
        "running",
        "started_ns",
        "tensors",
        "times",
        "waits_for",
    )

    def __init__(self, pending: Pending, plan: Plan, now_ns: int) -> None:
        self.pending = pending
        self.plan = plan
        self.started_ns = now_ns
        self.tensors: dict[str, Tensor] = {tensor.name: tensor for tensor in pending.request.inputs}
        self.waits_for = dict(plan.waits_for)
        self.running: dict[int, RequestFuture] = {}
        self.left = plan.steps
        self.compute = (0, 0, 0)
        self.outcome: InferResponse | ConchError | None = None
        self.accepted = False
        self.times: dict[int, list[int]] | None = {} if logger.isEnabledFor(logging.DEBUG) else None


class EnsembleScheduler(EnsembleRuns[_Run, _Run]):
    """Owns the requests of one version of an ensemble whose steps answer once each.

    Args:
        find: finds the models of the steps.
    """

    def __init__(self, config: ModelConfig, stats: ModelStats, respond: Respond, find: FindModel, clock: Clock) -> None:
        super().__init__(config, stats, respond, find, clock)
        self._name = config.name

    def submit(self, pending: Pending) -> None:
        """Take a request and start its first steps.

        Raises:
            UnavailableError: the scheduler is closed.
            ConchError: a first step's model does not take its request.
        """
        self._refuse_if_closed()
        run = _Run(pending, self._graph.plan(pending.request.outputs), self._clock.monotonic_ns())
        self._runs.add(run)
        pending.future.on_cancel = partial(self._on_cancel, run)
        self._start(run, run.plan.first)
        if isinstance(run.outcome, ConchError):
            raise run.outcome
        run.accepted = True

    def _start(self, run: _Run, numbers: Iterable[int]) -> None:
        """Start these steps, and those that answers given at once (from a cache) bring on."""
        ready = list(numbers)
        while ready and run.outcome is None:
            number = ready.pop(0)
            if self._gate is None or self._gate.enter(run, number):
                ready += self._start_step(run, number)

    def _start_step(self, run: _Run, number: int) -> Sequence[int]:
        """Send a step's request.

        Returns:
            The steps that can start now, if it was answered at once.
        """
        step = self._graph.steps[number]
        if run.times is not None:
            run.times[number] = [self._clock.monotonic_ns()]
        try:
            future = self._requests.send(run.pending.request, run.tensors, number)
        except ConchError as error:
            self._leave(number)
            self._fail(run, self._requests.named(step, error))
            return ()
        run.running[number] = future
        if future.done():
            return self._take_answer(run, number, future)
        future.on_settled = partial(self._on_answer, run, number)
        return ()

    def _admit(self, waiting: _Run, number: int) -> bool:
        if waiting.outcome is not None:
            return False
        self._start(waiting, self._start_step(waiting, number))
        return True

    def _on_answer(self, run: _Run, number: int, future: asyncio.Future[InferResponse]) -> None:
        if run.outcome is None:
            assert isinstance(future, RequestFuture)
            self._start(run, self._take_answer(run, number, future))

    def _take_answer(self, run: _Run, number: int, future: RequestFuture) -> Sequence[int]:
        """Keep a step's outputs.

        Returns:
            The steps that can start now.
        """
        del run.running[number]
        self._leave(number)
        step = self._graph.steps[number]
        if run.times is not None:
            run.times[number].append(self._clock.monotonic_ns())
        error = CancelledError("request was cancelled") if future.cancelled() else future.exception()
        if error is not None:
            assert isinstance(error, ConchError)
            self._fail(run, self._requests.named(step, error))
            return ()
        response = future.result()
        for output, tensor_name in step.outputs:
            tensor = response.output(output)
            if tensor is not None:
                run.tensors[tensor_name] = tensor
        run.compute = sum_of(run.compute, future.compute)
        run.left -= 1
        if not run.left:
            self._answer(run)
            return ()
        startable = []
        for following in run.plan.feeds[number]:
            run.waits_for[following] -= 1
            if not run.waits_for[following]:
                startable.append(following)
        return startable

    def _answer(self, run: _Run) -> None:
        """Every step has answered: so does the ensemble."""
        pending = run.pending
        tensors = self._requests.outputs(run.tensors, run.plan.outputs)
        try:
            response = self._respond(pending, Output(tensors, sequence_parameters(pending.request, tensors)))
        except ConchError as error:
            self._fail(run, error)
            return
        now_ns = self._clock.monotonic_ns()
        self._count_success(run, now_ns)
        if run.times is not None:
            self._log_times(run, run.times, now_ns)
        self._end(run, response)

    def _fail(self, run: _Run, error: ConchError) -> None:
        self._count_failure(run, error.reason)
        self._end(run, error)

    def _on_cancel(self, run: _Run) -> None:
        if run.outcome is None:
            self._count_failure(run, FailureReason.CANCELED)
            self._end(run, CancelledError("request was cancelled"))

    def _end(self, run: _Run, outcome: InferResponse | ConchError) -> None:
        run.outcome = outcome
        for number, running in run.running.items():
            if not running.cancel():
                running.exception()  # it ended in this very turn, and nobody will ask how
            self._leave(number)
        run.running.clear()
        future = run.pending.future
        future.on_cancel = nothing
        if not future.done() and (run.accepted or isinstance(outcome, InferResponse)):
            if isinstance(outcome, InferResponse):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
            if future.on_settled is not None:
                future.on_settled(future)
        self._forget(run)

    def _log_times(self, run: _Run, times: Mapping[int, Sequence[int]], now_ns: int) -> None:
        request = run.pending.request
        steps = ", ".join(
            f"'{self._graph.steps[number].model_name}' {(start - run.pending.enqueued_ns) / 1000:.0f}.."
            f"{(end - run.pending.enqueued_ns) / 1000:.0f}"
            for number, (start, end) in times.items()
        )
        logger.debug(
            "ensemble '%s', request id '%s': %.0f us; steps from..to us: %s",
            self._name, request.id, (now_ns - run.pending.enqueued_ns) / 1000, steps,
            extra={"request_id": request.id},
        )  # fmt: skip
