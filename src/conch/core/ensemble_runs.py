"""What schedulers of ensembles have in common: the books of their requests, and turns before steps that are limited."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Collection
from typing import Generic, Protocol, TypeVar

from conch.config.schema import ModelConfig
from conch.core.clock import Clock
from conch.core.draining import Drain
from conch.core.ensemble import EnsembleGraph
from conch.core.ensemble_steps import FindModel, StepRequests
from conch.core.queue import Pending
from conch.core.scheduling import Respond
from conch.core.stats import ModelStats
from conch.core.step_gate import StepGate
from conch.errors import ConchError, FailureReason, UnavailableError


class Run(Protocol):
    """One request to an ensemble.

    Attributes:
        started_ns: when its first steps were started.
        compute: the sums of what the steps' executions took: input, infer, output in ns.
    """

    pending: Pending
    started_ns: int
    compute: tuple[int, int, int]


RunT = TypeVar("RunT", bound=Run)
WaitingT = TypeVar("WaitingT")


class EnsembleRuns(Generic[RunT, WaitingT]):
    """The requests of one version of an ensemble. `WaitingT` is what waits for its turn before a step.

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
        decoupled: Collection[int] = (),
    ) -> None:
        self._graph = EnsembleGraph(config)
        self._requests = StepRequests(config, self._graph, find, frozenset(decoupled))
        self._stats = stats
        self._respond = respond
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        scheduling = config.ensemble_scheduling
        self._limit = scheduling.max_inflight_requests if scheduling is not None else 0
        self._gate: StepGate[WaitingT] | None = StepGate(self._limit, self._graph.feeds) if self._limit else None
        self._admission_planned = False
        self._runs: set[RunT] = set()
        self._drain = Drain()
        self._closed = False

    @property
    def in_flight(self) -> int:
        """Requests submitted and not yet settled."""
        return len(self._runs)

    @property
    def healthy(self) -> bool:
        """Whether every step has a model that can execute."""
        return self._requests.healthy

    async def drain(self) -> None:
        """Wait until every submitted request has ended."""
        await self._drain.wait(lambda: len(self._runs))

    async def close(self) -> None:
        """End what is under way; the models of the steps belong to others."""
        self._closed = True
        for run in list(self._runs):
            self._fail(run, UnavailableError("Server is stopping, the request was not executed"))

    @abstractmethod
    def _fail(self, run: RunT, error: ConchError) -> None:
        """End a request with an error."""

    @abstractmethod
    def _admit(self, waiting: WaitingT, number: int) -> bool:
        """Go on with what waited before that step; False where its request ended meanwhile."""

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise UnavailableError(
                "Server is stopping, scheduler for model has stopped accepting new inference requests"
            )

    def _leave(self, number: int) -> None:
        """A request is over with a step; those that wait before it get their turn in the next turn of the loop."""
        if self._gate is not None:
            self._gate.leave(number)
            if not self._admission_planned:
                self._admission_planned = True
                self._loop.call_soon(self._admit_next, self._gate)

    def _admit_next(self, gate: StepGate[WaitingT]) -> None:
        self._admission_planned = False
        for waiting, number in gate.admit():
            if not self._admit(waiting, number):
                gate.leave(number)

    def _count_success(self, run: RunT, now_ns: int) -> None:
        pending = run.pending
        self._stats.record_execution(pending.batch_size, run.compute, self._clock.epoch_ms())
        queue_ns = run.started_ns - pending.enqueued_ns
        self._stats.record_success(pending.batch_size, now_ns - pending.enqueued_ns, queue_ns, run.compute)
        pending.future.compute = run.compute

    def _count_failure(self, run: RunT, reason: FailureReason) -> None:
        self._stats.record_failure(reason, self._clock.monotonic_ns() - run.pending.enqueued_ns)

    def _forget(self, run: RunT) -> None:
        """Take a request that has ended off the books."""
        self._runs.remove(run)
        if not self._runs and self._drain.awaited:
            self._drain.tell()
