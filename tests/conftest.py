"""Fixtures for every test: nothing may be left behind."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest


@pytest.fixture(autouse=True)
def no_leaked_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a child process behind which was not there before.

    A fixture of wider scope may start its server inside the first test that uses it: such fixtures have "server" in
    their name.
    """
    me = psutil.Process()
    before = {child.pid for child in me.children()}
    yield
    if any("server" in name for name in request.fixturenames):
        return
    left = [child for child in me.children() if child.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=5)
    if alive:
        described = [_describe(child) for child in alive]
        for child in alive:
            child.kill()
        pytest.fail(f"test left child processes: {described}")


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (gone)"
