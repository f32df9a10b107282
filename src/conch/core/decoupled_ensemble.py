"""Runs the requests of an ensemble with steps that answer any number of times; so does the ensemble itself.

Each response of such a step drives the steps after it on its own, as a branch of the request. A response of the
ensemble goes out as soon as a branch has made it; the request ends when no step is under way any more, and with the
last response where that came last. The first error ends it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from conch.backend_api import Output
from conch.config.schema import ModelConfig
from conch.core.clock import Clock
from conch.core.ensemble import EnsembleGraph, Plan
from conch.core.ensemble_branches import BranchPlan, branch_plans
from conch.core.ensemble_runs import EnsembleRuns
from conch.core.ensemble_sources import Source
from conch.core.ensemble_steps import FindModel, sequence_parameters, sum_of
from conch.core.queue import Pending, RequestFuture, nothing
from conch.core.response_flow import ResponseFlow
from conch.core.scheduling import Respond
from conch.core.stats import ModelStats
from conch.errors import CancelledError, ConchError, FailureReason
from conch.inference import InferResponse
from conch.tensor import Tensor

logger = logging.getLogger("conch.core.decoupled_ensemble")


class _Branch:
    """One response of a decoupled step, or the request itself, and what becomes of it.

    Attributes:
        tensors: the ensemble's tensors that exist so far, under its own names.
        waits_for: step -> how many of the steps before it have not answered yet.
        makers: how many of the steps that make the ensemble's outputs have not answered yet.
        flow: where the response that began it counts as taken, once its first steps have started.
        to_start: how many of those have not.
    """

    __slots__ = ("flow", "makers", "plan", "run", "tensors", "to_start", "waits_for")

    def __init__(self, run: _Run, plan: BranchPlan, tensors: dict[str, Tensor], flow: ResponseFlow | None) -> None:
        self.run = run
        self.plan = plan
        self.tensors = tensors
        self.waits_for = dict(plan.waits_for)
        self.makers = plan.makers
        self.flow = flow
        self.to_start = len(plan.first)
        if flow is not None and not self.to_start:
            flow.take()

    def started(self, number: int) -> None:
        """A step of it does not wait for its turn any more."""
        if self.flow is not None and number in self.plan.first:
            self.to_start -= 1
            if not self.to_start:
                self.flow.take()


class _StepRun:
    """A step that runs in a branch."""

    __slots__ = ("branch", "future", "number")

    def __init__(self, branch: _Branch, number: int, future: RequestFuture) -> None:
        self.branch = branch
        self.number = number
        self.future = future


class _Run:
    """One request to the ensemble.

    Attributes:
        running: the steps that are under way.
        held: how many more of them wait for their turn.
        made: responses that were made in this moment and are to be sent.
        compute: the sums of what the steps' executions took: input, infer, output in ns.
        accepted: whether `submit` has returned, so that an error can no longer be raised there.
        over: whether it has ended, and with what if it is an error.
        answered: whether a response was sent.
    """

    __slots__ = (
        "accepted",
        "answered",
        "compute",
        "error",
        "held",
        "made",
        "over",
        "pending",
        "plan",
        "running",
        "started_ns",
    )

    def __init__(self, pending: Pending, plan: Plan, now_ns: int) -> None:
        self.pending = pending
        self.plan = plan
        self.started_ns = now_ns
        self.running: set[_StepRun] = set()
        self.held = 0
        self.made: list[InferResponse] = []
        self.compute = (0, 0, 0)
        self.accepted = False
        self.over = False
        self.answered = False
        self.error: ConchError | None = None


class DecoupledEnsembleScheduler(EnsembleRuns[_Run, _Branch]):
    """Owns the requests of one version of such an ensemble.

    Args:
        find: finds the models of the steps.
        decoupled: the steps that may answer more than once.
    """

    def __init__(
        self,
        config: ModelConfig,
        stats: ModelStats,
        respond: Respond,
        find: FindModel,
        clock: Clock,
        decoupled: Collection[int],
    ) -> None:
        super().__init__(config, stats, respond, find, clock, decoupled)
        self._decoupled = frozenset(decoupled)
        self._steps = config.ensemble_scheduling.step if config.ensemble_scheduling is not None else ()
        self._windows = _response_windows(self._graph, self._decoupled, self._limit)
        self._branch_plans: dict[tuple[str, ...], Mapping[Source, BranchPlan]] = {}

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
        self._go_on(run, self._begin(run, None, {tensor.name: tensor for tensor in pending.request.inputs}, None))
        if run.error is not None:
            raise run.error
        run.accepted = True

    def _begin(
        self, run: _Run, source: Source, tensors: dict[str, Tensor], flow: ResponseFlow | None
    ) -> Iterable[tuple[_Branch, int]]:
        """Begin a branch; its first steps."""
        plans = self._branch_plans.get(run.plan.outputs)
        if plans is None:
            plans = branch_plans(self._steps, self._decoupled, run.plan)
            self._branch_plans[run.plan.outputs] = plans
        branch = _Branch(run, plans[source], tensors, flow)
        if branch.plan.answers and not branch.makers:
            self._make_response(branch)
        return [(branch, number) for number in branch.plan.first]

    def _go_on(self, run: _Run, steps: Iterable[tuple[_Branch, int]]) -> None:
        """Start these steps, and those that answers given at once (from a cache) bring on; then send what was made."""
        ready = list(steps)
        while ready and not run.over:
            branch, number = ready.pop(0)
            if self._gate is None or self._gate.enter(branch, number):
                ready += self._start_step(branch, number)
            else:
                run.held += 1
        if not run.over:
            self._send(run)

    def _start_step(self, branch: _Branch, number: int) -> Iterable[tuple[_Branch, int]]:
        """Send a step's request; the steps that can start now, if it was answered at once."""
        run = branch.run
        branch.started(number)
        window = self._windows.get(number, 0)
        try:
            future = self._requests.send(run.pending.request, branch.tensors, number, window)
        except ConchError as error:
            self._leave(number)
            self._fail(run, self._requests.named(self._graph.steps[number], error))
            return ()
        step_run = _StepRun(branch, number, future)
        run.running.add(step_run)
        if future.done():
            return self._take_last(step_run)
        if window:
            future.flow = ResponseFlow()
        if number in self._decoupled:
            future.on_response = partial(self._on_response, step_run)
        future.on_settled = partial(self._on_settled, step_run)
        return ()

    def _admit(self, waiting: _Branch, number: int) -> bool:
        run = waiting.run
        if run.over:
            return False
        run.held -= 1
        self._go_on(run, self._start_step(waiting, number))
        return True

    def _on_response(self, step_run: _StepRun, outcome: InferResponse | ConchError) -> None:
        run = step_run.branch.run
        if run.over:
            return
        if isinstance(outcome, ConchError):
            self._fail(run, self._requests.named(self._graph.steps[step_run.number], outcome))
        else:
            self._go_on(run, self._take(step_run, outcome))

    def _on_settled(self, step_run: _StepRun, _: asyncio.Future[InferResponse]) -> None:
        run = step_run.branch.run
        if not run.over:
            self._go_on(run, self._take_last(step_run))

    def _take_last(self, step_run: _StepRun) -> Iterable[tuple[_Branch, int]]:
        """A step has answered for the last time; the steps that can start now."""
        run, number, future = step_run.branch.run, step_run.number, step_run.future
        run.running.remove(step_run)
        future.on_settled = future.on_response = None
        self._leave(number)
        error = CancelledError("request was cancelled") if future.cancelled() else future.exception()
        if error is not None:
            assert isinstance(error, ConchError)
            self._fail(run, self._requests.named(self._graph.steps[number], error))
            return ()
        run.compute = sum_of(run.compute, future.compute)
        response = future.result()
        if response.empty and number in self._decoupled:
            return ()
        return self._take(step_run, response)

    def _take(self, step_run: _StepRun, response: InferResponse) -> Iterable[tuple[_Branch, int]]:
        """Keep a step's outputs; the steps that can start now."""
        number = step_run.number
        tensors = {}
        for output, tensor_name in self._graph.steps[number].outputs:
            tensor = response.output(output)
            if tensor is not None:
                tensors[tensor_name] = tensor
        if number in self._decoupled:
            return self._begin(step_run.branch.run, number, tensors, step_run.future.flow)
        branch = step_run.branch
        branch.tensors.update(tensors)
        if branch.plan.answers and number in branch.plan.makes:
            branch.makers -= 1
            if not branch.makers:
                self._make_response(branch)
        startable = []
        for following in branch.plan.feeds[number]:
            branch.waits_for[following] -= 1
            if not branch.waits_for[following]:
                startable.append((branch, following))
        return startable

    def _make_response(self, branch: _Branch) -> None:
        """A branch has all that the ensemble answers with."""
        run = branch.run
        tensors = self._requests.outputs(branch.tensors, run.plan.outputs)
        try:
            run.made.append(self._response(run.pending, tensors))
        except ConchError as error:
            self._fail(run, error)

    def _response(self, pending: Pending, tensors: Sequence[Tensor]) -> InferResponse:
        return self._respond(pending, Output(tuple(tensors), sequence_parameters(pending.request, tensors)))

    def _send(self, run: _Run) -> None:
        """Send what was made; with the last of it, or with nothing, the request ends where no step is under way."""
        made, run.made = run.made, []
        if made and not run.answered:
            run.answered = True
            self._stats.record_first_response(self._clock.monotonic_ns() - run.pending.enqueued_ns)
        last = None
        if not run.running and not run.held:
            last = made.pop() if made else msgspec.structs.replace(self._response(run.pending, ()), empty=True)
        on_response = run.pending.future.on_response
        for response in made:
            if on_response is not None and not run.over:
                on_response(response)
        if last is not None and not run.over:
            self._succeed(run, last)

    def _succeed(self, run: _Run, last: InferResponse) -> None:
        self._count_success(run, self._clock.monotonic_ns())
        self._end(run)
        future = run.pending.future
        if not future.done():
            future.set_result(last)
            self._tell(future)

    def _fail(self, run: _Run, error: ConchError) -> None:
        self._count_failure(run, error.reason)
        run.error = error
        self._end(run)
        future = run.pending.future
        if run.accepted and not future.done():
            future.set_exception(error)
            self._tell(future)

    def _on_cancel(self, run: _Run) -> None:
        if not run.over:
            self._count_failure(run, FailureReason.CANCELED)
            self._end(run)

    def _end(self, run: _Run) -> None:
        """Take a request off the books and give up the steps that still run for it."""
        run.over = True
        run.pending.future.on_cancel = nothing
        for step_run in run.running:
            step_run.future.on_settled = step_run.future.on_response = None
            if not step_run.future.cancel():
                step_run.future.exception()  # it ended in this very turn, and nobody will ask how
            if step_run.future.flow is not None:
                step_run.future.flow.end()
            self._leave(step_run.number)
        run.running.clear()
        self._forget(run)

    @staticmethod
    def _tell(future: RequestFuture) -> None:
        if future.on_settled is not None:
            future.on_settled(future)


def _response_windows(graph: EnsembleGraph, decoupled: Collection[int], limit: int) -> Mapping[int, int]:
    """How many responses each decoupled step may be ahead of the steps it feeds.

    A model that is the model of another step, too, is not held up: it might wait for itself.
    """
    if not limit:
        return {}
    models = [step.model_name for step in graph.steps]
    return {
        number: limit
        for number in decoupled
        if graph.feeds[number] and models.count(graph.steps[number].model_name) == 1
    }
