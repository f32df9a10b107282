"""One model at a time: what serves gives way to what its repository has now.

The new versions are built while the old ones go on serving, then they are swapped; the old ones answer what they
accepted and are closed. Models go by identifier here, see `core/namespaces.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from conch.config.proto import ModelConfigMessage
from conch.core.catalog import Entry
from conch.core.ensemble import misfit, models_of
from conch.core.instance_set import only_instances_differ
from conch.core.loading import Loader, LoadPlan
from conch.core.model import Model
from conch.core.model_registry import ModelRegistry
from conch.core.repository import Lease, LocalRepository, Repository, Snapshot, fingerprint, write_files
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
Wish = tuple[str | None, Mapping[str, bytes]]


class Turnover:
    """Loads models, each in its turn, and takes them out of service.

    Args:
        load_concurrency: how many models load at the same time.

    Attributes:
        tried: what each model's directory looked like when it was last loaded, well or not: polling compares with it.
    """

    def __init__(self, models: ModelRegistry, loader: Loader, steps: Steps, load_concurrency: int) -> None:
        self._models = models
        self._loader = loader
        self._steps = steps
        self._slots = asyncio.Semaphore(load_concurrency)
        self._locks: dict[str, asyncio.Lock] = {}
        self._loaded: dict[str, _Loaded] = {}
        self.tried: dict[str, str] = {}
        #: The claims on the files of the models that serve.
        self._leases: dict[str, Lease] = {}
        #: How the ensembles that wait for their steps are to be loaded.
        self._wishes: dict[str, Wish] = {}
        #: Ensembles that serve, of which a step was loaded again.
        self._outdated: set[str] = set()
        self._stopping = False

    def is_as_in_repository(self, key: str) -> bool:
        """Whether the model was loaded, and with the configuration of its repository."""
        return key in self._loaded and self._loaded[key].override is None

    def is_due(self, key: str) -> bool:
        """Whether an ensemble waits for its steps, or serves although one of them was loaded again."""
        return key in self._outdated or key in self._models.dependencies.waiting

    def wish(self, key: str) -> Wish:
        """How an ensemble that is due is to be loaded."""
        loaded = self._loaded.get(key)
        return self._wishes[key] if loaded is None else (loaded.override, loaded.files)

    async def load(self, key: str, wish: Wish) -> None:
        """Load a model, or load it again; nothing happens when it is ready and unchanged.

        Raises:
            ConchError: it failed; what served before goes on serving.
        """
        async with self._locks.setdefault(key, asyncio.Lock()), self._slots:
            if self._stopping:
                raise UnavailableError("the server is stopping")
            entry = self._models.catalog.entries().get(key)
            if entry is None or wish[1]:
                entry = Entry("", key, _NOWHERE)
            self._models.namespaces.add(entry.namespace, entry.name)
            try:
                await self._load(entry, *wish)
            except OSError as error:  # files that go while they are read
                failure = InternalError(f"the files of model '{entry.name}' cannot be read: {error}")
                logger.error("failed to load '%s': %s", key, failure.message)
                self._models.table.mark_failed(key, (), failure)
                raise _load_failure(entry.name, (), failure) from error

    async def _load(self, entry: Entry, override: str | None, files: Mapping[str, bytes]) -> None:
        key = entry.identifier
        if files and override is None:
            logger.error("model '%s': override files need a model configuration: give 'config' as well", key)
            raise poll_failure(entry.name)
        snapshot = await self._fetch(entry, files)
        content = await asyncio.to_thread(fingerprint, snapshot.directory, configuration=False)
        wanted = _Loaded(snapshot.directory, snapshot.fingerprint, content, override, files)
        self.tried[key] = wanted.fingerprint
        kept = False
        try:
            if self._models.table.ready(key) and self._loaded.get(key) == wanted and key not in self._outdated:
                return
            kept = await self._load_from(entry, wanted, snapshot.lease)
        finally:
            if not kept and snapshot.lease is not None:
                await asyncio.to_thread(snapshot.lease.cleanup)

    async def _fetch(self, entry: Entry, files: Mapping[str, bytes]) -> Snapshot:
        """The files to load a model from: those of its repository, or the ones that came with the request."""
        key, failure = entry.identifier, poll_failure(entry.name)
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
            self._models.table.mark_unreadable(key, InvalidArgumentError(entry.problem))
            logger.error("failed to load '%s': not unique across all model repositories", key)
            raise InternalError(f"{failure.message}: {entry.problem}")
        try:
            return await entry.repository.fetch(entry.name)
        except ConchError as error:
            logger.error("failed to load '%s': %s", key, error.message)
            self._models.table.mark_unreadable(key, error)
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
                self._models.table.mark_unreadable(key, error)
            raise InternalError(f"{poll_failure(entry.name).message}: {error.message}") from error
        self._models.table.mark_readable(key)
        self._require_steps(entry, message, (wanted.override, wanted.files))
        self._steps.tell_namespaces(entry.namespace, message)
        selected: Sequence[int] = ()
        try:
            selected = self._loader.versions(message, wanted.directory)
            plan = await self._loader.plan(message, wanted.directory, selected)
        except ConchError as error:
            logger.error("failed to load '%s': %s: %s", key, error.code.value, error.message)
            self._models.table.mark_failed(key, selected, error)
            raise _load_failure(entry.name, selected, error) from error
        steps = self._steps.of(entry.namespace, plan.config)
        plan = msgspec.structs.replace(plan, namespace=entry.namespace, steps=steps)
        if self._is_update(key, wanted, plan):
            await self._update(key, wanted, plan)
            return False
        self._models.table.mark_loading(key, plan.versions)
        models, failure = await self._load_versions(plan)
        if failure is not None:
            await asyncio.gather(*(model.close() for model in models))
            self._models.table.mark_failed(key, plan.versions, failure)
            raise _load_failure(entry.name, plan.versions, failure) from failure
        self._loaded[key] = wanted
        self._swap(key, models, lease)
        return True

    def _is_update(self, key: str, wanted: _Loaded, plan: LoadPlan) -> bool:
        """Whether what serves differs in its instances alone from what is wanted."""
        ready, loaded = self._models.table.ready(key), self._loaded.get(key)
        if loaded is None or list(ready) != sorted(plan.versions):
            return False
        same_files = (loaded.directory, loaded.content) == (wanted.directory, wanted.content)
        return same_files and all(only_instances_differ(model.config, plan.config) for model in ready.values())

    async def _update(self, key: str, wanted: _Loaded, plan: LoadPlan) -> None:
        try:
            await self._loader.update(list(self._models.table.ready(key).values()), plan)
        except ConchError as error:
            logger.error("failed to update the instances of '%s': %s: %s", key, error.code.value, error.message)
            raise _load_failure(plan.config.name, plan.versions, error) from error
        self._loaded[key] = wanted
        logger.info("successfully updated the instances of '%s'", key)

    def _require_steps(self, entry: Entry, message: ModelConfigMessage, wish: Wish) -> None:
        """Raise InvalidArgumentError for an ensemble whose steps have no models that fit; it waits for them."""
        config = self._loader.ensemble(message)
        if config is None:
            return
        key = entry.identifier
        serves = bool(self._models.table.ready(key))
        if not serves:
            self._models.dependencies.set(key, self._steps.uses(entry.namespace, models_of(config)))
        error = misfit(config, self._steps.config_finder(entry.namespace))
        cycle = self._models.dependencies.cycle_of(key)
        if cycle:
            error = InvalidArgumentError(f"ensemble '{key}' can never run, ensembles use each other: {cycle}")
        if error is None:
            return
        logger.error("failed to load '%s': %s: %s", key, error.code.value, error.message)
        if not serves:
            self._models.dependencies.waiting[key] = error.message
            self._wishes[key] = wish
        if not self._models.table.states().get(key):
            self._models.table.mark_unreadable(key, error)
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
        self._models.dependencies.set(key, uses)
        self._models.dependencies.waiting.pop(key, None)
        self._wishes.pop(key, None)
        self._outdated.discard(key)
        self._outdated.update(
            user for user in self._models.dependencies.concerned([key]) if self._models.table.ready(user)
        )
        self._models.put(key, models, self._leases.pop(key, None))
        if lease is not None:
            self._leases[key] = lease
        for model in models:
            logger.info("successfully loaded '%s' version %d", key, model.version)

    def _withdraw(self, key: str, reason: str = "") -> None:
        self._loaded.pop(key, None)
        self._outdated.discard(key)
        self._models.withdraw(key, self._leases.pop(key, None), reason)

    def suspend(self, key: str, error: ConchError, reason: str) -> None:
        """Stop serving an ensemble until its steps fit again."""
        logger.error("ensemble '%s' serves no more: %s", key, error.message)
        loaded = self._loaded[key]
        self._models.dependencies.waiting[key] = error.message
        self._wishes[key] = loaded.override, loaded.files
        self._withdraw(key, reason)

    async def unload(self, key: str) -> None:
        """Take a model out of service."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            self._models.dependencies.drop(key)
            self._wishes.pop(key, None)
            self.tried.pop(key, None)
            self._models.table.mark_readable(key)
            self._withdraw(key)
            self._models.namespaces.forget(key)

    def stop(self) -> None:
        """Load nothing from now on."""
        self._stopping = True

    def release(self) -> None:
        """Give the files back of what served to the end."""
        for lease in self._leases.values():
            lease.cleanup()


#: The repository of models that are in none.
_NOWHERE: Repository = LocalRepository("")


def poll_failure(name: str) -> InternalError:
    return InternalError(f"failed to load '{name}', failed to poll from model repository")


def _load_failure(name: str, versions: Sequence[int], error: ConchError) -> ConchError:
    if not versions:
        return InvalidArgumentError(f"load failed for model '{name}': {error.message}")
    state = f"version {versions[-1]} is at UNAVAILABLE state: {error.code.value}: {error.message};"
    return InvalidArgumentError(f"load failed for model '{name}': {state}")
