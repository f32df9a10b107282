"""Which model versions are served, in which state, and how they change: load, reload, unload, poll.

A reload builds the new versions while the old ones go on serving, then swaps; the old ones answer what they accepted
and are closed. One model's failure never touches another.
"""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from conch.core.api import ModelIndexEntry
from conch.core.clock import Clock
from conch.core.loading import Loader, LoadPlan
from conch.core.model import Model
from conch.core.repository import fingerprint, scan
from conch.errors import ConchError, InternalError, InvalidArgumentError, NotFoundError, UnavailableError

logger = logging.getLogger("conch.core.lifecycle")


class VersionState(msgspec.Struct, frozen=True):
    """State (LOADING, READY, UNLOADING, UNAVAILABLE) of one version and why it is not ready."""

    state: str
    reason: str = ""


class _Loaded(msgspec.Struct, frozen=True):
    """What a model was last loaded from; an equal one means nothing changed."""

    directory: Path
    fingerprint: str
    override: str | None
    files: Mapping[str, bytes]


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
        self._ready: dict[str, dict[int, Model]] = {}
        self._states: dict[str, dict[int, VersionState]] = {}
        self._loaded: dict[str, _Loaded] = {}
        #: What each model's directory looked like when it was last loaded, well or not: polling compares with it.
        self._tried: dict[str, str] = {}
        #: Why the configurations of these models cannot be used. No version is to blame that could have a state.
        self._unreadable: dict[str, str] = {}
        self._scratch: dict[str, tempfile.TemporaryDirectory[str]] = {}
        self._resolved: dict[tuple[str, str], Model] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def find(self, name: str, version: str) -> Model:
        """The ready version a request means; `version` "" is the newest that is ready.

        Raises:
            NotFoundError, UnavailableError: in Triton's words.
            InvalidArgumentError: `version` is no integer.
        """
        model = self._resolved.get((name, version))
        if model is None:
            model = self._resolved[name, version] = self._resolve(name, version)
        return model

    def _resolve(self, name: str, version: str) -> Model:
        number = parse_version(version)
        states = self._states.get(name)
        if states is None:
            raise NotFoundError(f"Request for unknown model: '{name}' is not found")
        ready = self._ready.get(name, {})
        if number == -1:
            if not ready:
                raise NotFoundError(f"Request for unknown model: '{name}' has no available versions")
            return ready[max(ready)]
        if number in ready:
            return ready[number]
        if number in states:
            raise UnavailableError(f"Request for unknown model: '{name}' version {number} is not at ready state")
        raise NotFoundError(f"Request for unknown model: '{name}' version {number} is not found")

    def versions(self, name: str) -> Sequence[int]:
        """The ready versions of a model, ascending."""
        return sorted(self._ready.get(name, {}))

    def models(self) -> Iterable[Model]:
        """Every ready model version, by name and version."""
        for name in sorted(self._ready):
            for version in sorted(self._ready[name]):
                yield self._ready[name][version]

    def all_ready(self) -> bool:
        """Whether every version that should serve does.

        A version unloaded on purpose does not count, nor a configuration that cannot be read any more while the former
        one serves.
        """
        return (
            all(name in self._ready for name in self._unreadable)
            and all(
                state.state == "READY" or state.reason == "unloaded"
                for versions in self._states.values()
                for state in versions.values()
            )
            and all(model.healthy for model in self.models())
        )

    def states(self) -> Mapping[str, Mapping[int, VersionState]]:
        """Every model that was ever asked to load, with the state of its versions."""
        return self._states

    def unreadable(self) -> Mapping[str, str]:
        """Models whose configuration could not be read, and why."""
        return self._unreadable

    def index(self, ready: bool) -> Sequence[ModelIndexEntry]:
        """The repository index.

        A model that was never loaded has a name only; one whose configuration cannot be read has a reason but no
        version.
        """
        entries: list[ModelIndexEntry] = []
        for name in sorted({*scan(self._repositories), *self._states}):
            states = self._states.get(name)
            reason = self._unreadable.get(name, "")
            if not ready and (reason or not states):
                entries.append(ModelIndexEntry(name, "", "UNAVAILABLE" if reason else "", reason))
            if not states:
                continue
            for version, state in sorted(states.items()):
                if not ready or state.state == "READY":
                    entries.append(ModelIndexEntry(name, str(version), state.state, state.reason))
        return entries

    async def load_all(self) -> None:
        """Load every model of the repositories; failures are states, not exceptions."""
        await self.load_named(scan(self._repositories))

    async def load_named(self, names: Iterable[str]) -> None:
        """Load these models at once; failures are logged and show as states."""
        outcomes = await asyncio.gather(*(self.load(name) for name in names), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, ConchError):
                raise outcome

    async def load(self, name: str, override: str | None = None, files: Mapping[str, bytes] | None = None) -> None:
        """Load or reload a model; nothing happens when it is ready and unchanged.

        `override` and `files` hold for this load: a later one without them goes back to the repository.

        Raises:
            InternalError: it is in no repository, or its override cannot be used.
            InvalidArgumentError: it failed to load; what served before goes on serving.
        """
        async with self._locks.setdefault(name, asyncio.Lock()), self._slots:
            if self._stopping:
                raise UnavailableError("the server is stopping")
            await self._load(name, override, files or {})

    async def _load(self, name: str, override: str | None, files: Mapping[str, bytes]) -> None:
        poll_failure = InternalError(f"failed to load '{name}', failed to poll from model repository")
        if files and override is None:
            logger.error("model '%s': override files need a model configuration: give 'config' as well", name)
            raise poll_failure
        scratch = self._write_files(name, files, poll_failure) if files else None
        directory = Path(scratch.name) / name if scratch else self._locate(name, poll_failure)
        wanted = _Loaded(directory, await asyncio.to_thread(fingerprint, directory), override, files)
        self._tried[name] = wanted.fingerprint
        if self._ready.get(name) and self._loaded.get(name) == wanted:
            return
        try:
            message = self._loader.read(name, directory, override)
        except ConchError as error:
            self._drop(scratch)
            what = "Invalid config override" if override is not None else "failed to poll"
            logger.error("%s for model '%s': %s: %s", what, name, error.code.value, error.message)
            if override is None:
                self._unreadable[name] = f"{error.code.value}: {error.message}"
            raise InternalError(f"{poll_failure.message}: {error.message}") from error
        self._unreadable.pop(name, None)
        selected: Sequence[int] = ()
        try:
            selected = self._loader.versions(message, directory)
            plan = await self._loader.plan(message, directory, selected)
        except ConchError as error:
            self._drop(scratch)
            logger.error("failed to load '%s': %s: %s", name, error.code.value, error.message)
            self._mark_failed(name, selected, error)
            raise self._load_failure(name, selected, error) from error
        self._mark_loading(name, plan.versions)
        models, failure = await self._load_versions(plan)
        if failure is not None:
            self._drop(scratch)
            await asyncio.gather(*(model.close() for model in models))
            self._mark_failed(name, plan.versions, failure)
            raise self._load_failure(name, plan.versions, failure) from failure
        self._loaded[name] = wanted
        self._swap(name, models, scratch)

    async def _load_versions(self, plan: LoadPlan) -> tuple[Sequence[Model], ConchError | None]:
        outcomes = await asyncio.gather(
            *(self._loader.load(plan, version) for version in plan.versions), return_exceptions=True
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
            self._unreadable[name] = f"Invalid argument: {entry.problem}"
            logger.error("failed to load '%s': %s", name, entry.problem)
            raise failure
        return entry.directory

    def _write_files(
        self, name: str, files: Mapping[str, bytes], failure: InternalError
    ) -> tempfile.TemporaryDirectory[str]:
        scratch = tempfile.TemporaryDirectory(prefix="conch-model-")
        for relative, content in files.items():
            parts = PurePosixPath(relative)
            if parts.is_absolute() or ".." in parts.parts or not parts.parts:
                scratch.cleanup()
                logger.error("model '%s': override file path '%s' leaves the model's directory", name, relative)
                raise failure
            path = Path(scratch.name) / name / parts
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return scratch

    @staticmethod
    def _drop(scratch: tempfile.TemporaryDirectory[str] | None) -> None:
        if scratch is not None:
            scratch.cleanup()

    def _mark_loading(self, name: str, versions: Sequence[int]) -> None:
        states = self._states.setdefault(name, {})
        for version in versions:
            if version not in self._ready.get(name, {}):
                states[version] = VersionState("LOADING")
        self._resolved.clear()

    def _mark_failed(self, name: str, versions: Sequence[int], error: ConchError) -> None:
        states = self._states.setdefault(name, {})
        ready = self._ready.get(name, {})
        if not ready:
            states.clear()
        for version in versions:
            if version not in ready:
                states[version] = VersionState("UNAVAILABLE", f"{error.code.value}: {error.message}")
        if not versions:
            self._unreadable[name] = f"{error.code.value}: {error.message}"
        self._resolved.clear()

    def _load_failure(self, name: str, versions: Sequence[int], error: ConchError) -> ConchError:
        if not versions:
            return InvalidArgumentError(f"load failed for model '{name}': {error.message}")
        state = f"version {versions[-1]} is at UNAVAILABLE state: {error.code.value}: {error.message};"
        return InvalidArgumentError(f"load failed for model '{name}': {state}")

    def _swap(self, name: str, models: Sequence[Model], scratch: tempfile.TemporaryDirectory[str] | None) -> None:
        old = self._ready.get(name, {})
        old_scratch = self._scratch.pop(name, None)
        self._ready[name] = {model.version: model for model in models}
        if scratch is not None:
            self._scratch[name] = scratch
        states = self._states.setdefault(name, {})
        for version in old:
            states[version] = VersionState("UNAVAILABLE", "unloaded")
        for model in models:
            states[model.version] = VersionState("READY")
            logger.info("successfully loaded '%s' version %d", name, model.version)
        self._resolved.clear()
        self._own(self._retire(list(old.values()), old_scratch))

    async def unload(self, name: str) -> None:
        """Stop serving a model. In-flight requests are answered; an unknown model is no error."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            models = list(self._ready.pop(name, {}).values())
            scratch = self._scratch.pop(name, None)
            self._loaded.pop(name, None)
            self._tried.pop(name, None)
            self._unreadable.pop(name, None)
            for model in models:
                self._states[name][model.version] = VersionState("UNLOADING")
            self._resolved.clear()
            self._own(self._retire(models, scratch))

    async def _retire(self, models: Sequence[Model], scratch: tempfile.TemporaryDirectory[str] | None) -> None:
        for model in models:
            await model.drain()
            await model.close()
            name, version = model.config.name, model.version
            if self._states.get(name, {}).get(version) == VersionState("UNLOADING"):
                self._states[name][version] = VersionState("UNAVAILABLE", "unloaded")
            logger.info("successfully unloaded '%s' version %d", name, version)
        self._drop(scratch)

    def _own(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("retiring a model failed", exc_info=task.exception())

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
        self._ready.clear()
        self._resolved.clear()
        await asyncio.gather(*(model.close() for model in models))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for scratch in self._scratch.values():
            scratch.cleanup()


_LEADING_INTEGER = re.compile(r"\s*[+-]?\d+")


def parse_version(version: str) -> int:
    """The number of a version string, -1 for ""; like Triton it stops reading where the digits end.

    Raises:
        InvalidArgumentError: it does not begin with an integer >= 0, in Triton's words (which promise > 0).
    """
    if not version:
        return -1
    found = _LEADING_INTEGER.match(version)
    number = int(found.group()) if found else 0
    if found is None or number >= 2**63:
        raise InvalidArgumentError(
            f"failed to get model version from specified version string '{version}' (details: stol), version should be "
            "an integral value > 0"
        )
    if number < 0:
        raise InvalidArgumentError(
            f"invalid model version specified '{version}' , version should be an integral value > 0"
        )
    return number
