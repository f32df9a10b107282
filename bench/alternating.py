"""A benchmark of its own: conch and, where the variable TRITON holds a command line, Triton, in turn.

Both servers run all the time and are measured one after the other, round after round: what else the machine does then
disturbs both alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import environment
from bench.processes import CONCH, Server, running


def alternate(unit: str, write: Callable[[Path], None], measure: Callable[[Server], Mapping[str, float]]) -> int:
    """Run from the command line: write a repository, measure each server in each round, print medians and ratios.

    Args:
        unit: of what `measure` returns; less is better.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server (default 5)")
    parser.add_argument("--json", type=Path, help="also write the results with machine and versions to this file")
    arguments = parser.parse_args()
    commands = {"conch": CONCH}
    if "TRITON" in os.environ:
        commands["triton"] = os.environ["TRITON"]
    rounds: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        repository = Path(scratch) / "models"
        write(repository)
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(running(name, command, repository)) for name, command in commands.items()]
            for _ in range(arguments.rounds):
                for server in servers:
                    for case, value in measure(server).items():
                        rounds.setdefault(case, {}).setdefault(server.name, []).append(value)
    results = [_summary(case, unit, values) for case, values in rounds.items()]
    for result in results:
        print("  ".join(f"{key}: {value}" for key, value in result.items() if key != "rounds"))
    if arguments.json:
        arguments.json.write_text(json.dumps({"environment": environment.describe(), "results": results}, indent=2))
    return 0


def _summary(case: str, unit: str, values: Mapping[str, list[float]]) -> dict[str, object]:
    medians = {name: statistics.median(measured) for name, measured in values.items()}
    summary: dict[str, object] = {"case": case, "unit": unit}
    summary |= {name: round(median, 1) for name, median in medians.items()}
    if "triton" in medians:
        summary["conch/triton"] = round(medians["conch"] / medians["triton"], 2)
    return {**summary, "rounds": values}
