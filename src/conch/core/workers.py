"""The instances of a model version: which execute nothing, which are down, and how dead ones come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from conch.backend_api import Instance, StreamingInstance
from conch.core.clock import Clock
from conch.core.queue import RequestFuture
from conch.core.stats import ModelStats
from conch.errors import ConchError

logger = logging.getLogger("conch.core.workers")

#: Seconds before the 1st, 2nd, ... attempt to bring a dead instance back; the last one repeats.
RESTART_BACKOFF_S: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

#: Requests go on waiting for an instance that is restarted within this many seconds.
PATIENCE_S = 1.0

#: An instance that served this long since its last restart starts again from the first back-off.
HEALTHY_AFTER_NS = 30_000_000_000


class Worker:
    """An instance and what is remembered of it.

    Attributes:
        streaming: the instance, if its model may answer requests by itself.
        leaves: settled once it executes nothing more; None as long as it is to stay.
        lost: what it died of between its last answer and the moment when it is idle again.
        owes: requests that its model still has to answer by itself.
        revival: brings it back.
    """

    __slots__ = ("attempts", "instance", "label", "leaves", "lost", "owes", "revival", "revived_ns", "streaming")

    def __init__(self, instance: Instance, label: str) -> None:
        self.instance = instance
        self.streaming = instance if isinstance(instance, StreamingInstance) else None
        self.label = label
        self.attempts = 0
        self.revived_ns = 0
        self.leaves: asyncio.Future[None] | None = None
        self.lost: ConchError | None = None
        self.owes: list[RequestFuture] = []
        self.revival: asyncio.Task[None] | None = None


class Workers:
    """Owns the instances.

    Args:
        on_death: called when an instance has died, before the requests that died with it end.
        on_back: called when one is idle again after a restart.
        on_all_down: called with the reason when every instance is down and none is expected back soon.

    Attributes:
        idle: those that execute nothing. Whoever lets one execute takes it out.
    """

    def __init__(
        self,
        instances: Sequence[tuple[str, Instance]],
        stats: ModelStats,
        clock: Clock,
        on_death: Callable[[ConchError], None],
        on_back: Callable[[], None],
        on_all_down: Callable[[ConchError], None],
    ) -> None:
        self._stats = stats
        self._clock = clock
        self._on_death = on_death
        self._on_back = on_back
        self._on_all_down = on_all_down
        self._loop = asyncio.get_running_loop()
        self.idle: list[Worker] = []
        self._staying = [self._join(label, instance) for label, instance in instances]
        self._leaving: list[Worker] = []
        self._broken: dict[Worker, ConchError] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def down(self) -> ConchError | None:
        """Why no instance can execute; None where one can, or is expected back soon."""
        if not self._broken or len(self._broken) < len(self._staying):
            return None
        return next(iter(self._broken.values()))

    @property
    def healthy(self) -> bool:
        """Whether at least one instance can execute."""
        return len(self._broken) < len(self._staying)

    def release(self, worker: Worker) -> None:
        """A worker has executed: it is free for the next batch, or to leave."""
        if worker.leaves is not None:
            worker.leaves.set_result(None)
        elif worker.lost is not None:
            self._mourn(worker, worker.lost)
        else:
            self.idle.append(worker)

    def replace(self, instances: Sequence[tuple[str, Instance]]) -> Sequence[Worker]:
        """Execute on these from now on; those that are to leave, for `let_go`."""
        before = {id(worker.instance): worker for worker in self._staying}
        self._staying = [
            before.pop(id(instance)) if id(instance) in before else self._join(label, instance)
            for label, instance in instances
        ]
        leaving = list(before.values())
        self._leaving += leaving
        for worker in leaving:
            self._dismiss(worker)
        return leaving

    async def let_go(self, leaving: Sequence[Worker]) -> None:
        """Close these when they have ended what they execute."""
        for worker in leaving:
            assert worker.leaves is not None
            await worker.leaves
            if worker.owes:
                await asyncio.wait(worker.owes)
            await worker.instance.close()
            self._leaving.remove(worker)

    def stop_reviving(self) -> None:
        """Bring nobody back any more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Close all instances; nobody is brought back any more."""
        self.stop_reviving()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.instance.close() for worker in (*self._staying, *self._leaving)))

    def revive(self, worker: Worker, error: ConchError) -> None:
        """An instance has died: bring it back, unless it was to leave."""
        if self._closed:
            return
        worker.lost = None
        self._on_death(error)
        if worker.leaves is not None:
            worker.leaves.set_result(None)
            return
        self._stats.restart_count += 1
        if worker.attempts and self._clock.monotonic_ns() - worker.revived_ns > HEALTHY_AFTER_NS:
            worker.attempts = 0
        task = worker.revival = self._loop.create_task(self._bring_back(worker, error))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _join(self, label: str, instance: Instance) -> Worker:
        worker = Worker(instance, label)
        instance.on_idle_death(partial(self._on_idle_death, worker))
        self.idle.append(worker)
        return worker

    def _dismiss(self, worker: Worker) -> None:
        worker.leaves = self._loop.create_future()
        self._broken.pop(worker, None)
        if worker in self.idle:
            self.idle.remove(worker)
            worker.leaves.set_result(None)
        elif worker.revival is not None:
            worker.revival.cancel()
            worker.leaves.set_result(None)

    def _on_idle_death(self, worker: Worker, error: ConchError) -> None:
        if worker in self.idle:
            self.idle.remove(worker)
            self._mourn(worker, error)
        else:
            worker.lost = error

    def _mourn(self, worker: Worker, error: ConchError) -> None:
        logger.error("%s (it was idle); restarting", error.message)
        self.revive(worker, error)

    async def _bring_back(self, worker: Worker, error: ConchError) -> None:
        """Restart with back-off until it succeeds.

        What waits goes on waiting while the instance is expected back soon, and is refused once a restart has failed or
        the back-off has grown long.
        """
        failed = False
        while True:
            delay_s = RESTART_BACKOFF_S[min(worker.attempts, len(RESTART_BACKOFF_S) - 1)]
            if failed or delay_s > PATIENCE_S:
                self._broken[worker] = error
                if not self.healthy:
                    self._on_all_down(error)
            worker.attempts += 1
            if delay_s:
                logger.warning("instance %s is restarted in %.1f s", worker.label, delay_s)
                await self._clock.sleep(delay_s)
            worker.lost = None
            try:
                await worker.instance.restart()
            except ConchError as failure:
                logger.error("instance %s did not restart: %s", worker.label, failure.message)
                error, failed = failure, True
                continue
            if worker.lost is None:
                break
            logger.error("%s (just restarted); restarting", worker.lost.message)
            error = worker.lost
        self._broken.pop(worker, None)
        worker.revival = None
        worker.revived_ns = self._clock.monotonic_ns()
        logger.info("instance %s is back after %d attempt(s)", worker.label, worker.attempts)
        self.idle.append(worker)
        self._on_back()
