"""Model repositories: which models lie where, what brings their files here, and whether anything about one changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

import msgspec


class Lease(Protocol):
    """A claim on files that are there only as long as somebody uses them."""

    def cleanup(self) -> None:
        """Give the claim up."""
        ...


class Snapshot(msgspec.Struct, frozen=True):
    """The files of a model as they are to be loaded.

    Attributes:
        fingerprint: what they look like; an equal one means that nothing changed.
        lease: given up once no loaded version uses the files any more; None where they stay as they are.
    """

    directory: Path
    fingerprint: str
    lease: Lease | None = None


class Repository(Protocol):
    """Where models lie.

    Attributes:
        location: as it was given to the server; the namespace of its models.
    """

    location: str

    def models(self) -> Sequence[str]:
        """The names of its models, sorted, as of the last look.

        Raises:
            OSError: the repository cannot be listed.
        """
        ...

    async def look(self) -> None:
        """Look anew which models there are.

        Raises:
            ConchError, OSError: the repository cannot be reached.
        """
        ...

    async def fetch(self, name: str) -> Snapshot:
        """Bring the files of a model here, as they were at the last look.

        Raises:
            ConchError, OSError: they cannot be had; the text says why.
        """
        ...

    async def fingerprints(self) -> Mapping[str, str]:
        """What every model looks like now: name -> fingerprint.

        Raises:
            ConchError, OSError: the repository cannot be reached.
        """
        ...


class LocalRepository:
    """A directory of model directories. Hidden directories and plain files in it are not models."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._path = Path(location)

    def models(self) -> Sequence[str]:
        """See the port."""
        return sorted(path.name for path in self._path.iterdir() if path.is_dir() and not path.name.startswith("."))

    async def look(self) -> None:
        """Nothing to do: `models` always looks."""

    async def fetch(self, name: str) -> Snapshot:
        """See the port."""
        directory = self._path / name
        return Snapshot(directory, await asyncio.to_thread(fingerprint, directory))

    async def fingerprints(self) -> Mapping[str, str]:
        """See the port."""
        return await asyncio.to_thread(lambda: {name: fingerprint(self._path / name) for name in self.models()})


class RenamedRepository:
    """A repository some of whose models go by other names.

    Args:
        names: the directory's name -> the model's.

    Attributes:
        names: as given.
    """

    def __init__(self, repository: Repository, names: Mapping[str, str]) -> None:
        self.location = repository.location
        self.names = dict(names)
        self._repository = repository
        self._directories = {name: directory for directory, name in names.items()}

    def models(self) -> Sequence[str]:
        """See the port."""
        return sorted(self.names.get(directory, directory) for directory in self._repository.models())

    async def look(self) -> None:
        """See the port."""
        await self._repository.look()

    async def fetch(self, name: str) -> Snapshot:
        """See the port."""
        return await self._repository.fetch(self._directories.get(name, name))

    async def fingerprints(self) -> Mapping[str, str]:
        """See the port."""
        found = await self._repository.fingerprints()
        return {self.names.get(directory, directory): digest for directory, digest in found.items()}


def fingerprint(directory: Path, *, configuration: bool = True) -> str:
    """A digest of names, sizes and modification times of everything in a model's directory, with or without the files
    of its configuration.

    Bytecode caches are left out, since a model that is imported writes them. What vanishes meanwhile counts as absent:
    the next look sees the final state.
    """
    found: list[str] = []
    seen: set[str] = set()
    for root, directories, files in os.walk(directory, followlinks=True):
        real = os.path.realpath(root)
        directories[:] = [name for name in directories if name != "__pycache__" and real not in seen]
        seen.add(real)
        inside = Path(root).relative_to(directory)
        if not configuration and inside == Path():
            directories[:] = [name for name in directories if name != "configs"]
            files = [name for name in files if name != "config.pbtxt"]
        found += [f"{inside / name}\0\n" for name in directories]
        for name in files:
            try:
                status = Path(root, name).stat()
            except OSError:
                continue
            found.append(f"{inside / name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\n")
    return hashlib.blake2b("".join(sorted(found)).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def write_files(name: str, files: Mapping[str, bytes]) -> tempfile.TemporaryDirectory[str]:
    """A new directory that holds a model's directory `name` with these files (path relative to it -> content).

    Raises:
        ValueError: a path leaves the model's directory, or is none that a file can have; the text names it.
    """
    scratch = tempfile.TemporaryDirectory(prefix="conch-model-")
    try:
        for relative, content in files.items():
            _write_file(Path(scratch.name) / name, relative, content)
    except ValueError:
        scratch.cleanup()
        raise
    return scratch


def _write_file(directory: Path, relative: str, content: bytes) -> None:
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise ValueError(f"override file path '{relative}' leaves the model's directory")
    path = directory / parts
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except (OSError, ValueError) as error:  # a name too long, a file where a directory is, a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"override file path {relative!r} cannot be written: {reason}") from error
