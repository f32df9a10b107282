"""`conch tasks`: what `conch deploy` can make of each task by each approach, and what is missing here for it."""

from __future__ import annotations

import argparse
import importlib.util
import json
from typing import Any

from conch.deploy.split.splitters import ways
from conch.deploy.tasks import ALIASES, TASKS, Task

_LIBRARIES = ("torch", "transformers")
_OF_SENTENCE_TRANSFORMERS = ("sentence-embedding", "text-ranking")
#: Package -> module, where they are not named alike.
_MODULES = {"pillow": "PIL", "sentence-transformers": "sentence_transformers"}
_READY, _NO = "yes", "no"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the table; returns 0."""
    rows = [describe(TASKS[name]) for name in sorted(TASKS)]
    print(json.dumps({"tasks": rows}, indent=2) if args.json else render(rows))
    return 0


def describe(task: Task) -> dict[str, Any]:
    """One task as JSON values.

    `pipeline` and `ensemble` (the two approaches) each have a `state`: "yes", "no" (nothing breaks the task apart) or
    "missing" with the packages to install. `ensemble.splits` says how, the first that fits the checkpoint wins: "light"
    (own preprocess without transformers, network on an engine), "pipeline's steps" (the pipeline's own preprocess and
    postprocess around a network on an engine) or "generate" (a Python model that generates, its steps apart).
    """
    missing = missing_packages(task)
    splits = ways(task.name)
    state = "missing" if missing else _READY
    return {
        "task": task.name,
        "aliases": sorted(alias for alias, name in ALIASES.items() if name == task.name),
        "summary": task.summary,
        "missing": missing,
        "pipeline": {"state": state},
        "ensemble": {"state": state if splits else _NO, "splits": list(splits)},
    }


def missing_packages(task: Task) -> list[str]:
    """The packages that deploying and serving the task needs and that are not installed."""
    libraries = (*_LIBRARIES, *(("sentence-transformers",) if task.name in _OF_SENTENCE_TRANSFORMERS else ()))
    needed = dict.fromkeys((*libraries, *task.packages))
    return [name for name in needed if importlib.util.find_spec(_MODULES.get(name, name)) is None]


def render(rows: list[dict[str, Any]]) -> str:
    """The table for people."""
    lines = [("task", "pipeline", "ensemble", "what it does")]
    lines += [(row["task"], row["pipeline"]["state"], _ensemble(row["ensemble"]), row["summary"]) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    text = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]) for line in lines
    ]
    served = sum(row["pipeline"]["state"] == _READY for row in rows)
    split = sum(row["ensemble"]["state"] == _READY for row in rows)
    text += ["", f"{len(rows)} tasks; here {served} by --approach pipeline, {split} by --approach ensemble"]
    packages = sorted({package for row in rows for package in row["missing"]})
    for package in packages:
        waiting = ", ".join(row["task"] for row in rows if package in row["missing"])
        text.append(f"missing {package} for {waiting}: pip install {package}")
    return "\n".join(text)


def _ensemble(found: dict[str, Any]) -> str:
    if found["state"] != _READY:
        return str(found["state"])
    return f"yes ({', else '.join(found['splits'])})"
