"""Model repositories on disk: which models lie where, and whether anything about one has changed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec


class RepositoryEntry(msgspec.Struct, frozen=True):
    """A model's directory, or why it cannot be used (the name lies in two repositories)."""

    name: str
    directory: Path
    problem: str = ""


def scan(repositories: Sequence[Path]) -> Mapping[str, RepositoryEntry]:
    """All models of the repositories by name, sorted. Hidden directories and plain files are not models.

    Raises:
        OSError: a repository cannot be listed.
    """
    found: dict[str, RepositoryEntry] = {}
    for repository in repositories:
        for path in sorted(repository.iterdir()):
            if not path.is_dir() or path.name.startswith("."):
                continue
            if path.name in found:
                problem = f"model '{path.name}' is in more than one repository: {found[path.name].directory} and {path}"
                found[path.name] = RepositoryEntry(path.name, found[path.name].directory, problem)
            else:
                found[path.name] = RepositoryEntry(path.name, path)
    return dict(sorted(found.items()))


def fingerprint(directory: Path) -> str:
    """A digest of names, sizes and modification times of everything in a model's directory.

    Bytecode caches are left out, since a model that is imported writes them. A file that vanishes meanwhile counts as
    absent: the next look sees the final state.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(directory.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            digest.update(f"{path.relative_to(directory)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        else:
            digest.update(f"{path.relative_to(directory)}\0\n".encode())
    return digest.hexdigest()


def write_files(name: str, files: Mapping[str, bytes]) -> tempfile.TemporaryDirectory[str]:
    """A new directory that holds a model's directory `name` with these files (path relative to it -> content).

    Raises:
        ValueError: a path leaves the model's directory; the text names it.
    """
    scratch = tempfile.TemporaryDirectory(prefix="conch-model-")
    for relative, content in files.items():
        parts = PurePosixPath(relative)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts:
            scratch.cleanup()
            raise ValueError(f"override file path '{relative}' leaves the model's directory")
        path = Path(scratch.name) / name / parts
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return scratch
