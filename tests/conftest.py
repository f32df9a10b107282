"""Fixtures for every test: nothing may be left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

# Models of tests are tiny: threads would only wait for each other, in this process and in those it starts. Who sets the
# variable otherwise has it so. It is read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# How long an example takes, or making one up, says something of the machine, not of the code.
hypothesis.settings.register_profile("conch", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("conch")


@pytest.fixture(autouse=True)
def no_leaked_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a child process behind which was not there before.

    A fixture of wider scope may start its server inside the first test that uses it: such fixtures have "server" in
    their name.
    """
    before = child_pids()
    yield
    if any("server" in name for name in request.fixturenames):
        return
    if not (new := child_pids() - before):
        return
    left = [child for child in psutil.Process().children() if child.pid in new]
    _, alive = psutil.wait_procs(left, timeout=30)
    if alive:
        described = [_describe(child) for child in alive]
        for child in alive:
            child.kill()
        pytest.fail(f"test left child processes: {described}")


def child_pids() -> set[int]:
    """The children of this process, read where Linux lists them: psutil looks at every process of the machine, which
    costs more than most tests."""
    threads = Path("/proc/self/task").iterdir()
    return {int(pid) for thread in threads for pid in read_if_there(thread / "children").split()}


def read_if_there(path: Path) -> str:
    """Its text; nothing if the thread it belongs to has just ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (gone)"
