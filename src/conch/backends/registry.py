"""Backend names to backends, through the entry-point group `conch.backends`: third parties add theirs there.

A directory of backends has Python-based ones, as Triton's does: `<directory>/<name>/model.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from conch.backend_api import Backend
from conch.errors import InvalidArgumentError

GROUP = "conch.backends"


@runtime_checkable
class ClosableBackend(Protocol):
    """A backend that keeps something beside its instances."""

    async def close(self) -> None:
        """Free it."""
        ...


class BackendRegistry:
    """Constructs each backend once, at its first use, so that an engine nobody uses is never imported.

    Args:
        backends: further ones, by name.
        directory: of Python-based backends; None for none.
    """

    def __init__(self, backends: Mapping[str, Backend] | None = None, directory: Path | None = None) -> None:
        self._directory = directory
        self._entries: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=GROUP)}
        self._backends: dict[str, Backend] = dict(backends or {})

    def find(self, name: str) -> Backend:
        """The backend of that name.

        Raises:
            InvalidArgumentError: none is installed under it; the text lists those that are.
        """
        backend = self._backends.get(name)
        if backend is not None:
            return backend
        entry = self._entries.get(name)
        runtime = self._runtimes().get(name) if entry is None else None
        if entry is None and runtime is None:
            available = ", ".join(f"'{known}'" for known in sorted({*self._entries, *self._runtimes()}))
            raise InvalidArgumentError(
                f"unable to find backend '{name}': field 'backend' must name an installed one ({available})"
            )
        try:
            if runtime is not None:
                backend = cast("Backend", self._entries["python"].load()(runtime))
            else:
                backend = cast("Backend", cast("EntryPoint", entry).load()())
        except ImportError as error:
            raise InvalidArgumentError(
                f"backend '{name}' cannot be imported: {error}; try: pip install 'conch[all]'"
            ) from error
        self._backends[name] = backend
        return backend

    def _runtimes(self) -> dict[str, Path]:
        """The Python-based backends of the directory: name -> file."""
        if self._directory is None:
            return {}
        return {path.parent.name: path for path in sorted(self._directory.glob("*/model.py"))}

    async def close(self) -> None:
        """Free what backends keep beside their instances, once these are closed."""
        for backend in self._backends.values():
            if isinstance(backend, ClosableBackend):
                await backend.close()
