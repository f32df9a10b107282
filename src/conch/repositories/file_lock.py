"""Locks that servers of one machine respect, and that end with the process that holds them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class FileLock:
    """A lock that is held; as a context it is released at the end."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def shared(cls, path: Path) -> FileLock:
        """Wait for a lock that others may hold as well. The file is made if it is not there."""
        lock = cls._take(path, fcntl.LOCK_SH)
        assert lock is not None  # it was waited for
        return lock

    @classmethod
    def exclusive(cls, path: Path) -> FileLock:
        """Wait for a lock that nobody else holds."""
        lock = cls._take(path, fcntl.LOCK_EX)
        assert lock is not None  # it was waited for
        return lock

    @classmethod
    def unused(cls, path: Path) -> FileLock | None:
        """A lock that nobody else holds, without waiting; None where somebody does."""
        return cls._take(path, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @classmethod
    def _take(cls, path: Path, operation: int) -> FileLock | None:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, operation)
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    return cls(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass
            os.close(descriptor)  # the file was removed meanwhile: its lock holds nothing

    def release(self, *, remove: bool = False) -> None:
        """Hold it no more. With `remove` the file goes, too."""
        if self._descriptor is not None:
            if remove:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
