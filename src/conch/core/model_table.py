"""The models by name and version: which serve, in which state the others are, and which one a request means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from conch.core.api import ModelIndexEntry
from conch.core.model import Model
from conch.errors import ConchError, InvalidArgumentError, NotFoundError, UnavailableError


class VersionState(msgspec.Struct, frozen=True):
    """State (LOADING, READY, UNLOADING, UNAVAILABLE) of one version and why it is not ready."""

    state: str
    reason: str = ""


class ModelTable:
    """What is known of every model that was ever asked to load, by identifier (the name, where repositories are no
    namespaces). Owns no model: who withdraws one closes it."""

    def __init__(self) -> None:
        self._ready: dict[str, dict[int, Model]] = {}
        self._states: dict[str, dict[int, VersionState]] = {}
        #: Why the configurations of these models cannot be used. No version is to blame that could have a state.
        self._unreadable: dict[str, str] = {}
        self._resolved: dict[tuple[str, str], Model] = {}

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

    def ready(self, name: str) -> Mapping[int, Model]:
        """The ready versions of a model by number, ascending."""
        return self._ready.get(name, {})

    def models(self) -> Iterable[Model]:
        """Every ready model version, by name and version."""
        for name in sorted(self._ready):
            yield from self._ready[name].values()

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

    def failure(self, name: str) -> str:
        """Why the newest version that failed to load did; "" when none did."""
        for version, state in sorted(self._states.get(name, {}).items(), reverse=True):
            if state.state == "UNAVAILABLE" and state.reason != "unloaded":
                return f"version {version} is at UNAVAILABLE state: {state.reason};"
        return ""

    def unreadable(self) -> Mapping[str, str]:
        """Models whose configuration cannot be used, and why."""
        return self._unreadable

    def index(self, names: Mapping[str, str], ready: bool) -> Sequence[ModelIndexEntry]:
        """The repository index of these models (identifier -> name), in their order.

        A model that was never loaded has a name only; one whose configuration cannot be used has a reason but no
        version.
        """
        entries: list[ModelIndexEntry] = []
        for identifier, name in names.items():
            states = self._states.get(identifier)
            reason = self._unreadable.get(identifier, "")
            if not ready and (reason or not states):
                entries.append(ModelIndexEntry(name, "", "UNAVAILABLE" if reason else "", reason))
            if not states:
                continue
            for version, state in sorted(states.items()):
                if not ready or state.state == "READY":
                    entries.append(ModelIndexEntry(name, str(version), state.state, state.reason))
        return entries

    def mark_unreadable(self, name: str, error: ConchError) -> None:
        """The configuration of a model cannot be used; what serves goes on serving."""
        self._unreadable[name] = f"{error.code.value}: {error.message}"

    def mark_readable(self, name: str) -> None:
        """The configuration of a model can be used, or is not asked for any more."""
        self._unreadable.pop(name, None)

    def mark_loading(self, name: str, versions: Sequence[int]) -> None:
        """These versions are loading; those of them that serve go on serving."""
        states = self._states.setdefault(name, {})
        for version in versions:
            if version not in self._ready.get(name, {}):
                states[version] = VersionState("LOADING")
        self._resolved.clear()

    def mark_failed(self, name: str, versions: Sequence[int], error: ConchError) -> None:
        """These versions did not load (none: the model as a whole); those of them that serve go on serving."""
        states = self._states.setdefault(name, {})
        ready = self._ready.get(name, {})
        if not ready:
            states.clear()
        for version in versions:
            if version not in ready:
                states[version] = VersionState("UNAVAILABLE", f"{error.code.value}: {error.message}")
        if not versions:
            self.mark_unreadable(name, error)
        self._resolved.clear()

    def forget(self, name: str) -> None:
        """A model that does not serve: nothing is known of it any more."""
        if not self._ready.get(name):
            self._states.pop(name, None)
            self._unreadable.pop(name, None)
            self._resolved.clear()

    def put(self, name: str, models: Sequence[Model]) -> Sequence[Model]:
        """Serve these versions of a model.

        Returns:
            Those that served until now.
        """
        old = self._ready.get(name, {})
        self._ready[name] = {model.version: model for model in sorted(models, key=lambda model: model.version)}
        states = self._states.setdefault(name, {})
        states.update(dict.fromkeys(old, VersionState("UNAVAILABLE", "unloaded")))
        states.update(dict.fromkeys(self._ready[name], VersionState("READY")))
        self._resolved.clear()
        return list(old.values())

    def withdraw(self, name: str, reason: str = "") -> Sequence[Model]:
        """Serve a model no more, because of that reason ("" for a wish).

        Returns:
            The versions that served until now; `mark_closed` is to follow for each.
        """
        models = list(self._ready.pop(name, {}).values())
        for model in models:
            self._states[name][model.version] = VersionState("UNLOADING", reason)
        self._resolved.clear()
        return models

    def mark_closed(self, model: Model) -> None:
        """A withdrawn version is closed; if it was loaded again meanwhile its state is that of the new one."""
        states = self._states.get(model.identifier, {})
        state = states.get(model.version)
        if state is not None and state.state == "UNLOADING":
            states[model.version] = VersionState("UNAVAILABLE", state.reason or "unloaded")


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
