"""What the serving process asks of the system."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("hard", "allowed"), [(500, 500), (None, 65536)])
def test_the_process_may_open_as_many_files_as_the_system_lets_it(hard: int | None, allowed: int) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if hard is None else hard
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, {limit})); "
        "from conch.process import raise_open_file_limit; raise_open_file_limit(); "
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    expected = allowed if limit == resource.RLIM_INFINITY else min(allowed, limit)
    assert int(done.stdout) == expected
    assert ("may open 500 files at most" in done.stderr) == (expected == 500)
