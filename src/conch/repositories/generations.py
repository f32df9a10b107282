"""Copies of a model's files on this machine: each state of the model in a directory of its own, as long as it is used.

Several servers may share the copies. Who uses a generation, or is making one, holds a lock on it that ends with the
process; what nobody holds is removed when the next state has come.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from conch.repositories.file_lock import FileLock

_CONTENT, _MANIFEST = "model", "manifest.json"


class Claim:
    """A generation that is in use; implements `conch.core.repository.Lease`.

    Attributes:
        directory: holds what was put in.
    """

    def __init__(self, generations: Generations, name: str, lock: FileLock) -> None:
        self.directory = generations.root / name / _CONTENT
        self._generations = generations
        self._lock = lock

    def cleanup(self) -> None:
        """Use it no more."""
        if self._lock.held:
            self._lock.release()
            self._generations.sweep()


class Draft:
    """A generation that is being made.

    Attributes:
        directory: to be filled.
    """

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._name = f".new-{uuid.uuid4().hex}"
        self._lock = FileLock.shared(generations.root / f"{self._name}.lock")
        self.directory = generations.root / self._name / _CONTENT
        self.directory.mkdir(parents=True)

    def publish(self, name: str, marks: Mapping[str, str]) -> Claim:
        """It is complete, and `marks` says of its files (path -> mark) which state they have."""
        root = self._generations.root
        (root / self._name / _MANIFEST).write_text(json.dumps(dict(marks)))
        lock = FileLock.shared(root / f"{name}.lock")
        # If it is there already, another server was faster; the draft goes.
        with contextlib.suppress(OSError):
            (root / self._name).rename(root / name)
        self.discard()
        self._generations.current = name
        self._generations.sweep()
        return Claim(self._generations, name, lock)

    def discard(self) -> None:
        """Remove what was not published."""
        shutil.rmtree(self._generations.root / self._name, ignore_errors=True)
        self._lock.release(remove=True)


class Generations:
    """The generations of one model.

    Attributes:
        root: their directory.
        current: the one that is kept although nobody uses it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.current = ""
        root.mkdir(parents=True, exist_ok=True)

    def claim(self, name: str) -> Claim | None:
        """Use a generation; None where it is not there."""
        if not (self.root / name).is_dir():
            return None
        lock = FileLock.shared(self.root / f"{name}.lock")
        if not (self.root / name).is_dir():  # removed by another server before the lock was had
            lock.release(remove=True)
            return None
        self.current = name
        claim = Claim(self, name, lock)
        self.sweep()
        return claim

    def file(self, path: str, mark: str) -> Path | None:
        """A file of some generation at that path and in that state; None where there is none."""
        for manifest in self.root.glob(f"*/{_MANIFEST}"):
            try:
                marks = json.loads(manifest.read_text())
            except (OSError, ValueError):  # removed by another server
                continue
            if marks.get(path) == mark:
                return manifest.parent / _CONTENT / path
        return None

    def sweep(self) -> None:
        """Remove the generations that nobody uses, but the current one."""
        for directory in self.root.iterdir():
            if not directory.is_dir() or directory.name == self.current:
                continue
            lock = FileLock.unused(self.root / f"{directory.name}.lock")
            if lock is not None:
                shutil.rmtree(directory, ignore_errors=True)
                lock.release(remove=True)
