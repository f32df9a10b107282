"""How the models of a server change: load, reload, unload, poll.

`core/turnover.py` loads and replaces one model; here is which, and in what order. One model's failure never touches
another, but for ensembles: they load after the models they use, again when one of these was loaded again, serve no more
when one is gone or fits no more, and come back with it.

Clients call models by name; here they go by identifier, which is the name unless repositories are namespaces
(`core/namespaces.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from conch.core.api import ModelIndexEntry
from conch.core.clock import Clock
from conch.core.dependencies import loading_order
from conch.core.ensemble import misfit
from conch.core.loading import Loader
from conch.core.model import Model
from conch.core.model_registry import ModelRegistry
from conch.core.model_table import VersionState
from conch.core.repository import Repository
from conch.core.steps import Steps
from conch.core.turnover import Turnover, Wish, poll_failure
from conch.errors import ConchError, InternalError

logger = logging.getLogger("conch.core.lifecycle")


class Lifecycle:
    """The models of a server.

    Args:
        repositories: the model repositories, in order; a path stands for a directory.
        load_concurrency: how many models load at the same time.
        namespacing: whether each repository is a namespace, so that several may have models of the same name.

    Attributes:
        find: the ready version a request means, by name and version; see `ModelRegistry.find`.
    """

    find: Callable[[str, str], Model]

    def __init__(
        self,
        repositories: Sequence[Repository | Path],
        loader: Loader,
        clock: Clock,
        load_concurrency: int = 4,
        namespacing: bool = False,
    ) -> None:
        self._models = ModelRegistry(repositories, namespacing)
        self._clock = clock
        self.find = self._models.find
        self._steps = Steps(self._models, loader)
        self._turnover = Turnover(self._models, loader, self._steps, load_concurrency)

    def versions(self, name: str) -> Sequence[int]:
        """The ready versions of the model of that name, ascending; none where there is none, or several."""
        return self._models.versions(name)

    def models(self) -> Iterable[Model]:
        """Every ready model version, by name and version."""
        return self._models.table.models()

    def all_ready(self) -> bool:
        """Whether every version that should serve does; see `ModelTable.all_ready`."""
        return self._models.table.all_ready()

    def states(self) -> Mapping[str, Mapping[int, VersionState]]:
        """Every model that was ever asked to load, with the state of its versions."""
        return self._models.table.states()

    def unreadable(self) -> Mapping[str, str]:
        """Models whose configuration cannot be used, and why."""
        return self._models.table.unreadable()

    def index(self, ready: bool) -> Sequence[ModelIndexEntry]:
        """The repository index: of the models of the repositories, and of those that were loaded from files alone."""
        return self._models.index(ready)

    async def look(self) -> None:
        """Look into the repositories that are not local: what they hold now is what loads from now on.

        Raises:
            ConchError, OSError: one of them cannot be reached.
        """
        await self._models.catalog.look()

    async def register(self, repository: Repository) -> None:
        """Add a repository, of which nothing is loaded.

        Raises:
            AlreadyExistsError: it is there already, or names a model as another does.
            ConchError, OSError: it cannot be reached.
        """
        await repository.look()
        self._models.catalog.add(repository)

    async def unregister(self, location: str) -> None:
        """Forget a repository, once no model that was unloaded from it is still in use. What serves goes on.

        Raises:
            NotFoundError: there is none of that location.
        """
        keys = self._models.catalog.remove(location)
        await self._models.retirement.gone(keys)
        for key in keys:
            self._models.table.forget(key)

    async def load_all(self) -> None:
        """Load every model of the repositories; failures are states, not exceptions."""
        await self._load_explicitly(self._models.catalog.entries())

    async def load_named(self, names: Iterable[str]) -> None:
        """Load these models, and those that ensembles among them use, at once; failures are logged and show as states.

        An ensemble waits for the models it uses.
        """
        await self._load_explicitly([key for name in names for key in self._models.offered(name) or [name]])

    async def _load_explicitly(self, keys: Iterable[str]) -> None:
        explicit = set(keys)
        self._models.dependencies.implicit -= explicit
        await self._load_together(sorted(explicit))

    async def _load_together(self, keys: Iterable[str]) -> None:
        needs = await self._steps.with_steps(keys, self._loaded_with)
        tasks: dict[str, asyncio.Task[None]] = {}
        for key in loading_order(needs):
            before = [tasks[step] for step in needs[key] if step in tasks]
            tasks[key] = asyncio.create_task(self._load_after(before, key, needs.keys()))
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()

    def _loaded_with(self, steps: Iterable[str]) -> Sequence[str]:
        """The models of these names that load with an ensemble that uses them: not the ones that a client loaded in its
        own way."""
        keys = [key for name in sorted(steps) for key in self._models.offered(name)]
        fresh = [key for key in keys if not self._models.table.ready(key)]
        self._models.dependencies.implicit.update(fresh)
        return fresh + [key for key in keys if self._turnover.is_as_in_repository(key)]

    async def _load_after(self, before: Sequence[asyncio.Task[None]], key: str, together: Collection[str]) -> None:
        if before:
            await asyncio.wait(before)
        with contextlib.suppress(ConchError):  # logged, and shown as its state
            await self._turnover.load(key, (None, {}))
        await self._reconsider(key, together)

    async def load(self, name: str, override: str | None = None, files: Mapping[str, bytes] | None = None) -> None:
        """Load or reload a model, before it those an ensemble uses; nothing happens when it is ready and unchanged.

        With namespacing all models of that name; one that comes with files is of no repository.

        `override` and `files` hold for this load: a later one without them goes back to the repository.

        Raises:
            InternalError: it is in no repository, or its override cannot be used.
            InvalidArgumentError: it failed to load; what served before goes on serving.
        """
        try:
            await self.look()
        except (ConchError, OSError) as error:
            logger.error("failed to load '%s': %s", name, error)
            raise InternalError(f"{poll_failure(name).message}: {error}") from error
        keys = [name] if files else self._models.offered(name) or [name]
        outcomes = await asyncio.gather(
            *(self._load_for_client(key, (override, files or {})) for key in keys), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _load_for_client(self, key: str, wish: Wish) -> None:
        entry = self._models.catalog.entries().get(key)
        steps = await self._steps.names(entry, wish[0])
        await self._load_together(self._loaded_with(steps))
        self._models.dependencies.implicit.discard(key)
        failure: ConchError | None = None
        try:
            await self._turnover.load(key, wish)
        except ConchError as error:
            failure = error
        await self._reconsider(key, ())
        if failure is not None:
            raise failure

    async def _reconsider(self, changed: str, together: Collection[str], *, unloaded: bool = False) -> None:
        """A model came, changed or went: take back the ensembles it leaves without a step, load those that waited.

        Args:
            together: models that are being loaded with it and will look for themselves.
            unloaded: it went because a client wished so.
        """
        for key in [changed, *self._models.dependencies.concerned([changed])]:
            model = next(iter(self._models.table.ready(key).values()), None)
            error = None
            if model is not None:
                error = misfit(model.config, self._steps.config_finder(model.namespace))
            if error is not None:
                self._turnover.suspend(key, error, "" if unloaded else f"{error.code.value}: {error.message}")
            elif key == changed or key in together or unloaded:
                continue
            elif self._turnover.is_due(key):
                with contextlib.suppress(ConchError):  # logged, and shown as its state
                    await self._turnover.load(key, self._turnover.wish(key))
        self._models.retirement.begin()

    async def unload(self, name: str, dependents: bool = False) -> None:
        """Stop serving a model and the ensembles that use it. In-flight requests are answered; an unknown model is no
        error.

        Args:
            dependents: unload the models that were loaded because it uses them, too.
        """
        for key in self._models.namespaces.of_name(name):
            await self._unload(key, dependents)

    async def _unload(self, key: str, dependents: bool = False) -> None:
        steps = self._models.dependencies.of(key)
        await self._turnover.unload(key)
        await self._reconsider(key, (), unloaded=True)
        if dependents:
            for step in sorted(steps & self._models.dependencies.implicit):
                if not self._models.dependencies.users(step):
                    await self._unload(step, dependents=True)

    async def poll(self, interval_s: float) -> None:
        """Watch the repositories for ever: load what is new or changed, unload what is gone."""
        while True:
            await self._clock.sleep(interval_s)
            try:
                await self.poll_once()
            except Exception:  # whatever it was, the next look is due
                logger.exception("looking into the model repositories failed")

    async def poll_once(self) -> None:
        """Look at the repositories: load what is new or changed, unload what is gone."""
        current = await self._models.catalog.fingerprints()
        for key in [key for key in self._turnover.tried if key not in current]:
            await self._unload(key)
        changed = [key for key, digest in current.items() if self._turnover.tried.get(key) != digest]
        await self._load_explicitly(changed)

    def in_flight(self) -> Mapping[str, int]:
        """`NAME (version N)` -> requests not yet answered, for those that have any."""
        return {
            f"Model '{model.identifier}' (version {model.version})": model.in_flight
            for model in self.models()
            if model.in_flight
        }

    async def stop(self) -> None:
        """Close every model now; drain first to answer what is in flight."""
        self._turnover.stop()
        models = list(self.models())
        for key in {model.identifier for model in models}:
            self._models.table.withdraw(key)
        await asyncio.gather(*(model.close() for model in models))
        await self._models.retirement.finish()
        self._turnover.release()
