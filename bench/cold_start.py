"""From process start to ready with an identity model, and what the server process then occupies."""

from __future__ import annotations

import statistics
from pathlib import Path

from bench.processes import CONCH, running
from conch.testing import ModelRepositoryBuilder


def run(scratch: Path, rounds: int) -> list[dict[str, object]]:
    """Median time to ready and resident memory of the parent process."""
    repository = ModelRepositoryBuilder(scratch / "cold").add_identity(dims="[ 16 ]").root
    seconds, resident = [], []
    with running("conch", CONCH, repository):
        pass  # its code is compiled now, as it is after `pip install`
    for _ in range(max(rounds, 3)):
        with running("conch", CONCH, repository) as server:
            seconds.append(server.ready_after_s)
            resident.append(server.process.memory_info().rss / 1e6)
    note = f"ready after {statistics.median(seconds):.2f} s, {statistics.median(resident):.0f} MB resident"
    return [
        {
            "benchmark": "cold-start",
            "note": note,
            "ready_s": statistics.median(seconds),
            "resident_mb": statistics.median(resident),
        }
    ]
