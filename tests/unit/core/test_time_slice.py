"""The time slice of the thread that answers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from conch.core import time_slice

CODE = """
import os, threading
from conch.core.time_slice import shorten_time_slice

def policy(): return os.sched_getscheduler(0)

assert shorten_time_slice()
print(policy() == os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.getpriority(os.PRIO_PROCESS, 0))
thread = threading.Thread(target=lambda: print(policy() == os.SCHED_OTHER))
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a Linux system call")
def test_only_the_calling_thread_is_changed_and_its_priority_stays() -> None:
    def nicer() -> None:
        os.nice(3)

    ended = subprocess.run([sys.executable, "-c", CODE], preexec_fn=nicer, capture_output=True, text=True, check=True)
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)
    assert ended.stdout.split() == ["True", str(nice), "True"]


def test_nothing_happens_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slice.platform, "machine", lambda: "abacus")
    assert not time_slice.shorten_time_slice()
