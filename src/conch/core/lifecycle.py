"""How the models of a server change: load, reload, unload, poll.

A reload builds the new versions while the old ones go on serving, then swaps; the old ones answer what they accepted
and are closed. One model's failure never touches another, but for ensembles: they load after the models they use, again
when one of these was loaded again, serve no more when one is gone or fits no more, and come back with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from conch.config.proto import ModelConfigMessage
from conch.config.schema import ModelConfig
from conch.core.api import ModelIndexEntry
from conch.core.clock import Clock
from conch.core.dependencies import Dependencies, loading_order
from conch.core.ensemble import Missing, misfit, models_of
from conch.core.loading import Loader, LoadPlan
from conch.core.model import Model
from conch.core.model_table import ModelTable, VersionState
from conch.core.repository import fingerprint, scan, write_files
from conch.core.retirement import Retirement, Scratch
from conch.errors import ConchError, InternalError, InvalidArgumentError, UnavailableError

logger = logging.getLogger("conch.core.lifecycle")


class _Loaded(msgspec.Struct, frozen=True):
    """What a model was last loaded from; an equal one means nothing changed."""

    directory: Path
    fingerprint: str
    override: str | None
    files: Mapping[str, bytes]


#: The `override` and `files` of a load.
_Wish = tuple[str | None, Mapping[str, bytes]]


class Lifecycle:
    """The models of a server.

    Args:
        repositories: the model repositories, in order.
        load_concurrency: how many models load at the same time.
    """

    def __init__(self, repositories: Sequence[Path], loader: Loader, clock: Clock, load_concurrency: int = 4) -> None:
        self._repositories = list(repositories)
        self._loader = loader
        self._clock = clock
        self._slots = asyncio.Semaphore(load_concurrency)
        self._locks: dict[str, asyncio.Lock] = {}
        self._table = ModelTable()
        self._retirement = Retirement(self._table.mark_closed)
        self._dependencies = Dependencies()
        self._loaded: dict[str, _Loaded] = {}
        #: What each model's directory looked like when it was last loaded, well or not: polling compares with it.
        self._tried: dict[str, str] = {}
        self._scratch: dict[str, Scratch] = {}
        #: How the ensembles that wait for their steps are to be loaded.
        self._wishes: dict[str, _Wish] = {}
        #: Ensembles that serve, of which a step was loaded again.
        self._outdated: set[str] = set()
        self._stopping = False

    def find(self, name: str, version: str) -> Model:
        """The ready version a request means; see `ModelTable.find`."""
        return self._table.find(name, version)

    def versions(self, name: str) -> Sequence[int]:
        """The ready versions of a model, ascending."""
        return list(self._table.ready(name))

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
        """The repository index; see `ModelTable.index`."""
        return self._table.index(scan(self._repositories), ready)

    async def load_all(self) -> None:
        """Load every model of the repositories; failures are states, not exceptions."""
        await self.load_named(scan(self._repositories))

    async def load_named(self, names: Iterable[str]) -> None:
        """Load these models, and those that ensembles among them use, at once; failures are logged and show as states.

        An ensemble waits for the models it uses.
        """
        explicit = set(names)
        self._dependencies.implicit -= explicit
        await self._load_together(explicit)

    async def _load_together(self, names: Iterable[str]) -> None:
        needs = self._with_steps(names)
        tasks: dict[str, asyncio.Task[None]] = {}
        for name in loading_order(needs):
            before = [tasks[step] for step in needs[name] if step in tasks]
            tasks[name] = asyncio.create_task(self._load_after(before, name, needs.keys()))
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()

    def _with_steps(self, names: Iterable[str]) -> Mapping[str, frozenset[str]]:
        """These models and those they use, however indirectly -> the models each uses itself."""
        entries = scan(self._repositories)
        needs: dict[str, frozenset[str]] = {}
        wanted = sorted(names)
        while wanted:
            name = wanted.pop(0)
            if name not in needs:
                entry = entries.get(name)
                needs[name] = frozenset() if entry is None else self._loader.steps(name, entry.directory, None)
                if not self._table.ready(name):
                    self._dependencies.set(name, needs[name])
                wanted.extend(self._loaded_with(needs[name]))
        return needs

    def _loaded_with(self, steps: Iterable[str]) -> Sequence[str]:
        """Those models that load with an ensemble that uses them: not the ones that a client loaded in its own way."""
        fresh = [name for name in sorted(steps) if not self._table.ready(name)]
        self._dependencies.implicit.update(fresh)
        return fresh + [name for name in sorted(steps) if name in self._loaded and self._loaded[name].override is None]

    async def _load_after(self, before: Sequence[asyncio.Task[None]], name: str, together: Collection[str]) -> None:
        if before:
            await asyncio.wait(before)
        with contextlib.suppress(ConchError):  # logged, and shown as its state
            await self._load_one(name, (None, {}))
        await self._reconsider(name, together)

    async def load(self, name: str, override: str | None = None, files: Mapping[str, bytes] | None = None) -> None:
        """Load or reload a model, before it those an ensemble uses; nothing happens when it is ready and unchanged.

        `override` and `files` hold for this load: a later one without them goes back to the repository.

        Raises:
            InternalError: it is in no repository, or its override cannot be used.
            InvalidArgumentError: it failed to load; what served before goes on serving.
        """
        entry = scan(self._repositories).get(name)
        if entry is not None or override is not None:
            directory = entry.directory if entry is not None else Path(name)
            await self._load_together(self._loaded_with(self._loader.steps(name, directory, override)))
        self._dependencies.implicit.discard(name)
        failure: ConchError | None = None
        try:
            await self._load_one(name, (override, files or {}))
        except ConchError as error:
            failure = error
        await self._reconsider(name, ())
        if failure is not None:
            raise failure

    async def _load_one(self, name: str, wish: _Wish) -> None:
        async with self._locks.setdefault(name, asyncio.Lock()), self._slots:
            if self._stopping:
                raise UnavailableError("the server is stopping")
            await self._load(name, *wish)

    async def _load(self, name: str, override: str | None, files: Mapping[str, bytes]) -> None:
        poll_failure = InternalError(f"failed to load '{name}', failed to poll from model repository")
        if files and override is None:
            logger.error("model '%s': override files need a model configuration: give 'config' as well", name)
            raise poll_failure
        scratch = self._write_files(name, files, poll_failure) if files else None
        directory = Path(scratch.name) / name if scratch else self._locate(name, poll_failure)
        wanted = _Loaded(directory, await asyncio.to_thread(fingerprint, directory), override, files)
        self._tried[name] = wanted.fingerprint
        if self._table.ready(name) and self._loaded.get(name) == wanted and name not in self._outdated:
            return
        try:
            await self._load_from(name, wanted, scratch, poll_failure)
        except BaseException:
            if scratch is not None:
                scratch.cleanup()
            raise

    async def _load_from(
        self, name: str, wanted: _Loaded, scratch: Scratch | None, poll_failure: InternalError
    ) -> None:
        try:
            message = self._loader.read(name, wanted.directory, wanted.override)
            self._loader.check_graph(message, self._step_config)
        except ConchError as error:
            what = "Invalid config override" if wanted.override is not None else "failed to poll"
            logger.error("%s for model '%s': %s: %s", what, name, error.code.value, error.message)
            if wanted.override is None:
                self._table.mark_unreadable(name, error)
            raise InternalError(f"{poll_failure.message}: {error.message}") from error
        self._table.mark_readable(name)
        self._require_steps(name, message, (wanted.override, wanted.files))
        selected: Sequence[int] = ()
        try:
            selected = self._loader.versions(message, wanted.directory)
            plan = await self._loader.plan(message, wanted.directory, selected)
        except ConchError as error:
            logger.error("failed to load '%s': %s: %s", name, error.code.value, error.message)
            self._table.mark_failed(name, selected, error)
            raise _load_failure(name, selected, error) from error
        self._table.mark_loading(name, plan.versions)
        models, failure = await self._load_versions(plan)
        if failure is not None:
            await asyncio.gather(*(model.close() for model in models))
            self._table.mark_failed(name, plan.versions, failure)
            raise _load_failure(name, plan.versions, failure) from failure
        self._loaded[name] = wanted
        self._swap(name, models, scratch)

    def _require_steps(self, name: str, message: ModelConfigMessage, wish: _Wish) -> None:
        """Raise InvalidArgumentError for an ensemble whose steps have no models that fit; it waits for them."""
        config = self._loader.ensemble(message)
        if config is None:
            return
        serves = bool(self._table.ready(name))
        if not serves:
            self._dependencies.set(name, models_of(config))
        error = misfit(config, self._step_config)
        cycle = self._dependencies.cycle_of(name)
        if cycle:
            error = InvalidArgumentError(f"ensemble '{name}' can never run, ensembles use each other: {cycle}")
        if error is None:
            return
        logger.error("failed to load '%s': %s: %s", name, error.code.value, error.message)
        if not serves:
            self._dependencies.waiting[name] = error.message
            self._wishes[name] = wish
        if not self._table.states().get(name):
            self._table.mark_unreadable(name, error)
        raise _load_failure(name, (), error)

    async def _load_versions(self, plan: LoadPlan) -> tuple[Sequence[Model], ConchError | None]:
        outcomes = await asyncio.gather(
            *(self._loader.load(plan, version, self._find_step) for version in plan.versions), return_exceptions=True
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

    def _locate(self, name: str, failure: InternalError) -> Path:
        entry = scan(self._repositories).get(name)
        if entry is None:
            logger.error("failed to load '%s': model not found in any model repository", name)
            raise failure
        if entry.problem:
            self._table.mark_unreadable(name, InvalidArgumentError(entry.problem))
            logger.error("failed to load '%s': %s", name, entry.problem)
            raise failure
        return entry.directory

    @staticmethod
    def _write_files(name: str, files: Mapping[str, bytes], failure: InternalError) -> Scratch:
        try:
            return write_files(name, files)
        except ValueError as error:
            logger.error("model '%s': %s", name, error)
            raise failure from error

    def _swap(self, name: str, models: Sequence[Model], scratch: Scratch | None) -> None:
        """Serve these versions instead of those that do."""
        self._dependencies.set(name, models_of(models[0].config))
        self._dependencies.waiting.pop(name, None)
        self._wishes.pop(name, None)
        self._outdated.discard(name)
        self._outdated.update(user for user in self._dependencies.concerned([name]) if self._table.ready(user))
        self._retirement.add(name, self._table.put(name, models), self._scratch.pop(name, None))
        if scratch is not None:
            self._scratch[name] = scratch
        for model in models:
            logger.info("successfully loaded '%s' version %d", name, model.version)

    def _withdraw(self, name: str, reason: str = "") -> None:
        self._loaded.pop(name, None)
        self._outdated.discard(name)
        self._retirement.add(name, self._table.withdraw(name, reason), self._scratch.pop(name, None))

    async def _reconsider(self, changed: str, together: Collection[str], *, unloaded: bool = False) -> None:
        """A model came, changed or went: take back the ensembles it leaves without a step, load those that waited.

        Args:
            together: models that are being loaded with it and will look for themselves.
            unloaded: it went because a client wished so.
        """
        for name in [changed, *self._dependencies.concerned([changed])]:
            ready = self._table.ready(name)
            error = misfit(next(iter(ready.values())).config, self._step_config) if ready else None
            if error is not None:
                self._suspend(name, error, "" if unloaded else f"{error.code.value}: {error.message}")
            elif name == changed or name in together or unloaded:
                continue
            elif name in self._outdated or name in self._dependencies.waiting:
                loaded = self._loaded.get(name)
                wish = self._wishes[name] if loaded is None else (loaded.override, loaded.files)
                with contextlib.suppress(ConchError):  # logged, and shown as its state
                    await self._load_one(name, wish)
        self._retirement.begin()

    def _suspend(self, name: str, error: ConchError, reason: str) -> None:
        """Stop serving an ensemble until its steps fit again."""
        logger.error("ensemble '%s' serves no more: %s", name, error.message)
        loaded = self._loaded[name]
        self._dependencies.waiting[name] = error.message
        self._wishes[name] = loaded.override, loaded.files
        self._withdraw(name, reason)

    def _step_config(self, name: str, version: str) -> ModelConfig | Missing:
        """The configuration of a step's model, or why there is none, in Triton's words."""
        if self._table.ready(name):
            try:
                return self.find(name, version).config
            except ConchError:
                return Missing(f"whose required version {version} is not loaded.")
        waits = self._dependencies.waiting.get(name)
        if waits is not None:
            return Missing(f"which is not valid. Model '{name}' failed with error: {waits}")
        failure = self._table.failure(name)
        if failure:
            return Missing(f"which has no loaded version. Model '{name}' loading failed with error: {failure}")
        return Missing()

    def _find_step(self, name: str, version: str) -> Model:
        """The model of a step: a ready one, or one that is about to leave after the ensembles that use it.

        Raises:
            ConchError: there is none, in Triton's words.
        """
        try:
            return self.find(name, version)
        except ConchError:
            leaving = self._retirement.find(name, version)
            if leaving is None:
                raise
            return leaving

    async def unload(self, name: str, dependents: bool = False) -> None:
        """Stop serving a model and the ensembles that use it. In-flight requests are answered; an unknown model is no
        error.

        Args:
            dependents: unload the models that were loaded because it uses them, too.
        """
        steps = self._dependencies.of(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            self._dependencies.drop(name)
            self._wishes.pop(name, None)
            self._tried.pop(name, None)
            self._table.mark_readable(name)
            self._withdraw(name)
        await self._reconsider(name, (), unloaded=True)
        if dependents:
            for step in sorted(steps & self._dependencies.implicit):
                if not self._dependencies.users(step):
                    await self.unload(step, dependents=True)

    async def poll(self, interval_s: float) -> None:
        """Watch the repositories for ever: load what is new or changed, unload what is gone."""
        while True:
            await self._clock.sleep(interval_s)
            try:
                current = await asyncio.to_thread(self._fingerprints)
            except OSError as error:
                logger.error("cannot poll the model repository: %s", error)
                continue
            for name in [name for name in self._tried if name not in current]:
                await self.unload(name)
            await self.load_named(name for name, digest in current.items() if self._tried.get(name) != digest)

    def _fingerprints(self) -> dict[str, str]:
        return {
            name: fingerprint(entry.directory) for name, entry in scan(self._repositories).items() if not entry.problem
        }

    def in_flight(self) -> Mapping[str, int]:
        """`NAME (version N)` -> requests not yet answered, for those that have any."""
        return {
            f"Model '{model.config.name}' (version {model.version})": model.in_flight
            for model in self.models()
            if model.in_flight
        }

    async def stop(self) -> None:
        """Close every model now; drain first to answer what is in flight."""
        self._stopping = True
        models = list(self.models())
        for name in {model.config.name for model in models}:
            self._table.withdraw(name)
        await asyncio.gather(*(model.close() for model in models))
        await self._retirement.finish()
        for scratch in self._scratch.values():
            scratch.cleanup()


def _load_failure(name: str, versions: Sequence[int], error: ConchError) -> ConchError:
    if not versions:
        return InvalidArgumentError(f"load failed for model '{name}': {error.message}")
    state = f"version {versions[-1]} is at UNAVAILABLE state: {error.code.value}: {error.message};"
    return InvalidArgumentError(f"load failed for model '{name}': {state}")
