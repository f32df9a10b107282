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


def objects_of_others() -> set[str]:
    """The names of the shared memory objects on this machine, but for those that tests make, and those a real Triton
    beside the tests may have."""
    spared = (OF_TESTS.removeprefix("/"), "triton_python_backend")
    return {path.name for path in Path("/dev/shm").iterdir() if not path.name.startswith(spared)}
