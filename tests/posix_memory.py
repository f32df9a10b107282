"""Shared memory objects for tests, made without the process that Python's own keep beside themselves."""

from __future__ import annotations

import _posixshmem
import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

#: What the names of all objects begin with that tests make. Tests of several processes run at the same time.
OF_TESTS = "/tests-of-conch-"
PREFIX = f"{OF_TESTS}{os.getpid()}-"


@contextlib.contextmanager
def shared_object(name: str, content: bytes) -> Iterator[mmap.mmap]:
    """A shared memory object of that name as long as the context lasts; what was left under it is replaced."""
    with contextlib.suppress(FileNotFoundError):
        _posixshmem.shm_unlink(name)
    descriptor = _posixshmem.shm_open(name, os.O_CREAT | os.O_RDWR, mode=0o600)
    try:
        os.ftruncate(descriptor, len(content))
        with mmap.mmap(descriptor, len(content)) as mapped:
            mapped[:] = content
            yield mapped
    finally:
        os.close(descriptor)
        _posixshmem.shm_unlink(name)


def objects_of(pid: int) -> set[str]:
    """The names of the shared memory objects that a process has open or mapped, but for those that tests make.

    Those of all processes would say nothing: others make and take away their own at any moment.
    """
    directory = Path(f"/proc/{pid}")
    paths = [line.split(maxsplit=5)[-1] for line in (directory / "maps").read_text().splitlines()]
    for descriptor in (directory / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed again
            paths.append(str(descriptor.readlink()))
    names = {path.removeprefix("/dev/shm/") for path in paths if path.startswith("/dev/shm/")}
    return {name for name in names if not name.startswith(OF_TESTS.removeprefix("/"))}
