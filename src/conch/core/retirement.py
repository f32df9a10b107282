"""Models that serve no more: they answer what they accepted and are closed, after the ensembles that use them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from conch.core.model import Model
from conch.core.repository import Lease

logger = logging.getLogger("conch.core.retirement")


class _Leaving:
    """Versions of a model that leave together.

    Attributes:
        lease: the claim on their files.
        uses: the models that they use as ensembles.
        begun: whether they are being closed.
        closed: set when they are.
    """

    def __init__(self, name: str, models: Sequence[Model], lease: Lease | None) -> None:
        self.name = name
        self.models = models
        self.lease = lease
        self.uses = frozenset[str]().union(*(model.uses for model in models))
        self.begun = False
        self.closed = asyncio.Event()


class Retirement:
    """Owns the models that leave, and the tasks that close them.

    Args:
        on_closed: called with each model once it is closed.
    """

    def __init__(self, on_closed: Callable[[Model], None]) -> None:
        self._on_closed = on_closed
        self._leaving: list[_Leaving] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, name: str, models: Sequence[Model], lease: Lease | None) -> None:
        """Take versions of a model that have been withdrawn; they stay up until `begin`."""
        self._leaving.append(_Leaving(name, models, lease))

    def find(self, name: str, version: str) -> Model | None:
        """A version that leaves but is not closed yet, the newest for ""; None when there is none."""
        for leaving in reversed(self._leaving):
            for model in reversed(leaving.models):
                if leaving.name == name and version in ("", str(model.version)):
                    return model
        return None

    def begin(self) -> None:
        """Close what was added, in the background, once no ensemble that leaves with it needs it any more."""
        for leaving in self._leaving:
            if not leaving.begun:
                leaving.begun = True
                task = asyncio.get_running_loop().create_task(self._close(leaving))
                self._tasks.add(task)
                task.add_done_callback(self._on_done)

    async def gone(self, names: Collection[str]) -> None:
        """Wait until no version of these models is left that leaves."""
        await asyncio.gather(*(leaving.closed.wait() for leaving in self._leaving if leaving.name in names))

    async def finish(self) -> None:
        """Wait until everything is closed."""
        self.begin()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close(self, leaving: _Leaving) -> None:
        try:
            for other in list(self._leaving):
                if leaving.name in other.uses:
                    await other.closed.wait()
            for model in leaving.models:
                await model.drain()
                await model.close()
                self._on_closed(model)
                logger.info("successfully unloaded '%s' version %d", leaving.name, model.version)
        finally:
            self._leaving.remove(leaving)
            leaving.closed.set()
            if leaving.lease is not None:
                await asyncio.to_thread(leaving.lease.cleanup)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("closing a model failed", exc_info=task.exception())
