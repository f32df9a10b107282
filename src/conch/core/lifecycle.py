"""How the models of a server change: load, reload, unload, poll.

A reload builds the new versions while the old ones go on serving, then swaps; the old ones answer what they accepted
and are closed. One model's failure never touches another, but for ensembles: they load after the models they use, again
when one of these was loaded again, serve no more when one is gone or fits no more, and come back with it.

Clients call models by name; here they go by identifier, which is the name unless repositories are namespaces
(`core/namespaces.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from conch.config.proto import ModelConfigMessage
from conch.core.api import ModelIndexEntry
from conch.core.catalog import DUPLICATE, Catalog, Entry
from conch.core.clock import Clock
from conch.core.dependencies import Dependencies, loading_order
from conch.core.ensemble import misfit, models_of
from conch.core.instance_set import only_instances_differ
from conch.core.loading import Loader, LoadPlan
from conch.core.model import Model
from conch.core.model_table import ModelTable, VersionState
from conch.core.namespaces import Namespaces
from conch.core.repository import Lease, LocalRepository, Repository, Snapshot, fingerprint, write_files
from conch.core.retirement import Retirement
from conch.core.steps import Steps
from conch.errors import ConchError, InternalError, InvalidArgumentError, UnavailableError

logger = logging.getLogger("conch.core.lifecycle")


class _Loaded(msgspec.Struct, frozen=True):
    """What a model was last loaded from; an equal one means nothing changed.

    Attributes:
        content: fingerprint of its files but for those of the configuration.
    """

    directory: Path
    fingerprint: str
    content: str
    override: str | None
    files: Mapping[str, bytes]


#: The `override` and `files` of a load.
_Wish = tuple[str | None, Mapping[str, bytes]]


class Lifecycle:
    """The models of a server.

    Args:
        repositories: the model repositories, in order; a path stands for a directory.
        load_concurrency: how many models load at the same time.
        namespacing: whether each repository is a namespace, so that several may have models of the same name.

    Attributes:
        find: the ready version a request means, by name and version; see `Namespaces.meant` and `ModelTable.find`.
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
        self._catalog = Catalog(repositories, namespacing)
        self._namespaces = Namespaces(namespacing)
        self._loader = loader
        self._clock = clock
        self._slots = asyncio.Semaphore(load_concurrency)
        self._locks: dict[str, asyncio.Lock] = {}
        self._table = ModelTable()
        self.find = self._find_meant if namespacing else self._table.find
        self._retirement = Retirement(self._table.mark_closed)
        self._dependencies = Dependencies()
        self._steps = Steps(self._catalog, self._namespaces, loader, self._table, self._dependencies, self._retirement)
        self._loaded: dict[str, _Loaded] = {}
        #: What each model's directory looked like when it was last loaded, well or not: polling compares with it.
        self._tried: dict[str, str] = {}
        #: The claims on the files of the models that serve.
        self._leases: dict[str, Lease] = {}
        #: How the ensembles that wait for their steps are to be loaded.
        self._wishes: dict[str, _Wish] = {}
        #: Ensembles that serve, of which a step was loaded again.
        self._outdated: set[str] = set()
        self._stopping = False

    def _find_meant(self, name: str, version: str) -> Model:
        return self._table.find(self._namespaces.meant(name), version)

    def versions(self, name: str) -> Sequence[int]:
        """The ready versions of the model of that name, ascending; none where there is none, or several."""
        try:
            return list(self._table.ready(self._namespaces.meant(name)))
        except ConchError:
            return []

    def models(self) -> Iterable[Model]:
        """Every ready model version, by name and version."""
        return self._table.models()

    def all_ready(self) -> bool:
        """Whether every version that should serve does; see `ModelTable.all_ready`."""
        return self._table.all_ready()

    def states(self) -> Mapping[str, Mapping[int, VersionState]]:
        """Every model that was ever asked to load, with the state of its versions."""
        return self._table.states()

    def unreadable(self) -> Mapping[str, str]:
        """Models whose configuration cannot be used, and why."""
        return self._table.unreadable()

    def index(self, ready: bool) -> Sequence[ModelIndexEntry]:
        """The repository index: of the models of the repositories, and of those that were loaded from files alone."""
        entries = self._catalog.entries()
        names = {key: entry.name for key, entry in entries.items() if not entry.problem}
        others = self._table.states().keys() - entries.keys()
        names.update({key: key.rpartition("::")[2] if self._namespaces.enabled else key for key in others})
        duplicates = [
            ModelIndexEntry(entry.name, "", "UNAVAILABLE", DUPLICATE) for entry in entries.values() if entry.problem
        ]
        if duplicates or others:
            order = {key: (entry.namespace, entry.name) for key, entry in entries.items()}
            names = dict(sorted(names.items(), key=lambda each: order.get(each[0], ("", each[1]))))
        found = [*self._table.index(names, ready), *duplicates]
        return sorted(found, key=lambda entry: entry.name) if duplicates else found

    async def look(self) -> None:
        """Look into the repositories that are not local: what they hold now is what loads from now on.

        Raises:
            ConchError, OSError: one of them cannot be reached.
        """
        await self._catalog.look()

    async def register(self, repository: Repository) -> None:
        """Add a repository, of which nothing is loaded.

        Raises:
            AlreadyExistsError: it is there already, or names a model as another does.
            ConchError, OSError: it cannot be reached.
        """
        await repository.look()
        self._catalog.add(repository)

    async def unregister(self, location: str) -> None:
        """Forget a repository, once no model that was unloaded from it is still in use. What serves goes on.

        Raises:
            NotFoundError: there is none of that location.
        """
        keys = self._catalog.remove(location)
        await self._retirement.gone(keys)
        for key in keys:
            self._table.forget(key)

    async def load_all(self) -> None:
        """Load every model of the repositories; failures are states, not exceptions."""
        await self._load_explicitly(self._catalog.entries())

    async def load_named(self, names: Iterable[str]) -> None:
        """Load these models, and those that ensembles among them use, at once; failures are logged and show as states.

        An ensemble waits for the models it uses.
        """
        await self._load_explicitly([key for name in names for key in self._keys(name) or [name]])

    async def _load_explicitly(self, keys: Iterable[str]) -> None:
        explicit = set(keys)
        self._dependencies.implicit -= explicit
        await self._load_together(sorted(explicit))

    def _keys(self, name: str) -> Sequence[str]:
        """The models of that name that the repositories have; any name is one without namespacing."""
        return [entry.identifier for entry in self._catalog.named(name)] if self._namespaces.enabled else [name]

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
        keys = [key for name in sorted(steps) for key in self._keys(name)]
        fresh = [key for key in keys if not self._table.ready(key)]
        self._dependencies.implicit.update(fresh)
        return fresh + [key for key in keys if key in self._loaded and self._loaded[key].override is None]

    async def _load_after(self, before: Sequence[asyncio.Task[None]], key: str, together: Collection[str]) -> None:
        if before:
            await asyncio.wait(before)
        with contextlib.suppress(ConchError):  # logged, and shown as its state
            await self._load_one(key, (None, {}))
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
            raise InternalError(f"{_poll_failure(name).message}: {error}") from error
        keys = [name] if files else self._keys(name) or [name]
        outcomes = await asyncio.gather(
            *(self._load_for_client(key, (override, files or {})) for key in keys), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _load_for_client(self, key: str, wish: _Wish) -> None:
        entry = self._catalog.entries().get(key)
        steps = await self._steps.names(entry, wish[0])
        await self._load_together(self._loaded_with(steps))
        self._dependencies.implicit.discard(key)
        failure: ConchError | None = None
        try:
            await self._load_one(key, wish)
        except ConchError as error:
            failure = error
        await self._reconsider(key, ())
        if failure is not None:
            raise failure

    async def _load_one(self, key: str, wish: _Wish) -> None:
        async with self._locks.setdefault(key, asyncio.Lock()), self._slots:
            if self._stopping:
                raise UnavailableError("the server is stopping")
            entry = self._catalog.entries().get(key)
            if entry is None or wish[1]:
                entry = Entry("", key, _NOWHERE)
            self._namespaces.add(entry.namespace, entry.name)
            try:
                await self._load(entry, *wish)
            except OSError as error:  # files that go while they are read
                failure = InternalError(f"the files of model '{entry.name}' cannot be read: {error}")
                logger.error("failed to load '%s': %s", key, failure.message)
                self._table.mark_failed(key, (), failure)
                raise _load_failure(entry.name, (), failure) from error

    async def _load(self, entry: Entry, override: str | None, files: Mapping[str, bytes]) -> None:
        key = entry.identifier
        if files and override is None:
            logger.error("model '%s': override files need a model configuration: give 'config' as well", key)
            raise _poll_failure(entry.name)
        snapshot = await self._fetch(entry, files)
        content = await asyncio.to_thread(fingerprint, snapshot.directory, configuration=False)
        wanted = _Loaded(snapshot.directory, snapshot.fingerprint, content, override, files)
        self._tried[key] = wanted.fingerprint
        kept = False
        try:
            if self._table.ready(key) and self._loaded.get(key) == wanted and key not in self._outdated:
                return
            kept = await self._load_from(entry, wanted, snapshot.lease)
        finally:
            if not kept and snapshot.lease is not None:
                await asyncio.to_thread(snapshot.lease.cleanup)

    async def _fetch(self, entry: Entry, files: Mapping[str, bytes]) -> Snapshot:
        """The files to load a model from: those of its repository, or the ones that came with the request."""
        key, failure = entry.identifier, _poll_failure(entry.name)
        if files:
            try:
                scratch = write_files(entry.name, files)
            except ValueError as error:
                logger.error("model '%s': %s", key, error)
                raise InternalError(f"{failure.message}: {error}") from error
            directory = Path(scratch.name) / entry.name
            return Snapshot(directory, await asyncio.to_thread(fingerprint, directory), scratch)
        if entry.repository is _NOWHERE:
            logger.error("failed to load '%s': model not found in any model repository", key)
            raise failure
        if entry.problem:
            self._table.mark_unreadable(key, InvalidArgumentError(entry.problem))
            logger.error("failed to load '%s': not unique across all model repositories", key)
            raise InternalError(f"{failure.message}: {entry.problem}")
        try:
            return await entry.repository.fetch(entry.name)
        except ConchError as error:
            logger.error("failed to load '%s': %s", key, error.message)
            self._table.mark_unreadable(key, error)
            raise InternalError(f"{failure.message}: {error.message}") from error

    async def _load_from(self, entry: Entry, wanted: _Loaded, lease: Lease | None) -> bool:
        """Load what is wanted.

        Returns:
            Whether the lease is in use now.
        """
        key = entry.identifier
        find = self._steps.config_finder(entry.namespace)
        try:
            message = self._loader.read(entry.name, wanted.directory, wanted.override)
            self._loader.check_graph(message, find)
        except ConchError as error:
            what = "Invalid config override" if wanted.override is not None else "failed to poll"
            logger.error("%s for model '%s': %s: %s", what, key, error.code.value, error.message)
            if wanted.override is None:
                self._table.mark_unreadable(key, error)
            raise InternalError(f"{_poll_failure(entry.name).message}: {error.message}") from error
        self._table.mark_readable(key)
        self._require_steps(entry, message, (wanted.override, wanted.files))
        self._steps.tell_namespaces(entry.namespace, message)
        selected: Sequence[int] = ()
        try:
            selected = self._loader.versions(message, wanted.directory)
            plan = await self._loader.plan(message, wanted.directory, selected)
        except ConchError as error:
            logger.error("failed to load '%s': %s: %s", key, error.code.value, error.message)
            self._table.mark_failed(key, selected, error)
            raise _load_failure(entry.name, selected, error) from error
        steps = self._steps.of(entry.namespace, plan.config)
        plan = msgspec.structs.replace(plan, namespace=entry.namespace, steps=steps)
        if self._is_update(key, wanted, plan):
            await self._update(key, wanted, plan)
            return False
        self._table.mark_loading(key, plan.versions)
        models, failure = await self._load_versions(plan)
        if failure is not None:
            await asyncio.gather(*(model.close() for model in models))
            self._table.mark_failed(key, plan.versions, failure)
            raise _load_failure(entry.name, plan.versions, failure) from failure
        self._loaded[key] = wanted
        self._swap(key, models, lease)
        return True

    def _is_update(self, key: str, wanted: _Loaded, plan: LoadPlan) -> bool:
        """Whether what serves differs in its instances alone from what is wanted."""
        ready, loaded = self._table.ready(key), self._loaded.get(key)
        if loaded is None or list(ready) != sorted(plan.versions):
            return False
        same_files = (loaded.directory, loaded.content) == (wanted.directory, wanted.content)
        return same_files and all(only_instances_differ(model.config, plan.config) for model in ready.values())

    async def _update(self, key: str, wanted: _Loaded, plan: LoadPlan) -> None:
        try:
            await self._loader.update(list(self._table.ready(key).values()), plan)
        except ConchError as error:
            logger.error("failed to update the instances of '%s': %s: %s", key, error.code.value, error.message)
            raise _load_failure(plan.config.name, plan.versions, error) from error
        self._loaded[key] = wanted
        logger.info("successfully updated the instances of '%s'", key)

    def _require_steps(self, entry: Entry, message: ModelConfigMessage, wish: _Wish) -> None:
        """Raise InvalidArgumentError for an ensemble whose steps have no models that fit; it waits for them."""
        config = self._loader.ensemble(message)
        if config is None:
            return
        key = entry.identifier
        serves = bool(self._table.ready(key))
        if not serves:
            self._dependencies.set(key, self._steps.uses(entry.namespace, models_of(config)))
        error = misfit(config, self._steps.config_finder(entry.namespace))
        cycle = self._dependencies.cycle_of(key)
        if cycle:
            error = InvalidArgumentError(f"ensemble '{key}' can never run, ensembles use each other: {cycle}")
        if error is None:
            return
        logger.error("failed to load '%s': %s: %s", key, error.code.value, error.message)
        if not serves:
            self._dependencies.waiting[key] = error.message
            self._wishes[key] = wish
        if not self._table.states().get(key):
            self._table.mark_unreadable(key, error)
        raise _load_failure(entry.name, (), error)

    async def _load_versions(self, plan: LoadPlan) -> tuple[Sequence[Model], ConchError | None]:
        def find(name: str, version: str) -> Model:
            return self._steps.find(plan.steps.get(name, name), version)

        outcomes = await asyncio.gather(
            *(self._loader.load(plan, version, find) for version in plan.versions), return_exceptions=True
        )
        models = [outcome for outcome in outcomes if isinstance(outcome, Model)]
        for version, outcome in zip(plan.versions, outcomes, strict=True):
            if isinstance(outcome, ConchError):
                logger.error(
                    "failed to load '%s' version %d: %s: %s", plan.config.name, version, outcome.code.value, outcome
                )
                return models, outcome
            if isinstance(outcome, BaseException):
                raise outcome
        return models, None

    def _swap(self, key: str, models: Sequence[Model], lease: Lease | None) -> None:
        """Serve these versions instead of those that do."""
        uses = self._steps.uses(models[0].namespace, models_of(models[0].config))
        self._dependencies.set(key, uses)
        self._dependencies.waiting.pop(key, None)
        self._wishes.pop(key, None)
        self._outdated.discard(key)
        self._outdated.update(user for user in self._dependencies.concerned([key]) if self._table.ready(user))
        self._retirement.add(key, self._table.put(key, models), self._leases.pop(key, None))
        if lease is not None:
            self._leases[key] = lease
        for model in models:
            logger.info("successfully loaded '%s' version %d", key, model.version)

    def _withdraw(self, key: str, reason: str = "") -> None:
        self._loaded.pop(key, None)
        self._outdated.discard(key)
        self._retirement.add(key, self._table.withdraw(key, reason), self._leases.pop(key, None))

    async def _reconsider(self, changed: str, together: Collection[str], *, unloaded: bool = False) -> None:
        """A model came, changed or went: take back the ensembles it leaves without a step, load those that waited.

        Args:
            together: models that are being loaded with it and will look for themselves.
            unloaded: it went because a client wished so.
        """
        for key in [changed, *self._dependencies.concerned([changed])]:
            model = next(iter(self._table.ready(key).values()), None)
            error = None
            if model is not None:
                error = misfit(model.config, self._steps.config_finder(model.namespace))
            if error is not None:
                self._suspend(key, error, "" if unloaded else f"{error.code.value}: {error.message}")
            elif key == changed or key in together or unloaded:
                continue
            elif key in self._outdated or key in self._dependencies.waiting:
                loaded = self._loaded.get(key)
                wish = self._wishes[key] if loaded is None else (loaded.override, loaded.files)
                with contextlib.suppress(ConchError):  # logged, and shown as its state
                    await self._load_one(key, wish)
        self._retirement.begin()

    def _suspend(self, key: str, error: ConchError, reason: str) -> None:
        """Stop serving an ensemble until its steps fit again."""
        logger.error("ensemble '%s' serves no more: %s", key, error.message)
        loaded = self._loaded[key]
        self._dependencies.waiting[key] = error.message
        self._wishes[key] = loaded.override, loaded.files
        self._withdraw(key, reason)

    async def unload(self, name: str, dependents: bool = False) -> None:
        """Stop serving a model and the ensembles that use it. In-flight requests are answered; an unknown model is no
        error.

        Args:
            dependents: unload the models that were loaded because it uses them, too.
        """
        for key in self._namespaces.of_name(name):
            await self._unload(key, dependents)

    async def _unload(self, key: str, dependents: bool = False) -> None:
        steps = self._dependencies.of(key)
        async with self._locks.setdefault(key, asyncio.Lock()):
            self._dependencies.drop(key)
            self._wishes.pop(key, None)
            self._tried.pop(key, None)
            self._table.mark_readable(key)
            self._withdraw(key)
            self._namespaces.forget(key)
        await self._reconsider(key, (), unloaded=True)
        if dependents:
            for step in sorted(steps & self._dependencies.implicit):
                if not self._dependencies.users(step):
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
        current = await self._catalog.fingerprints()
        for key in [key for key in self._tried if key not in current]:
            await self._unload(key)
        changed = [key for key, digest in current.items() if self._tried.get(key) != digest]
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
        self._stopping = True
        models = list(self.models())
        for key in {model.identifier for model in models}:
            self._table.withdraw(key)
        await asyncio.gather(*(model.close() for model in models))
        await self._retirement.finish()
        for lease in self._leases.values():
            lease.cleanup()


#: The repository of models that are in none.
_NOWHERE: Repository = LocalRepository("")


def _poll_failure(name: str) -> InternalError:
    return InternalError(f"failed to load '{name}', failed to poll from model repository")


def _load_failure(name: str, versions: Sequence[int], error: ConchError) -> ConchError:
    if not versions:
        return InvalidArgumentError(f"load failed for model '{name}': {error.message}")
    state = f"version {versions[-1]} is at UNAVAILABLE state: {error.code.value}: {error.message};"
    return InvalidArgumentError(f"load failed for model '{name}': {state}")
