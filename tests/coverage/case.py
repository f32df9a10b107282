"""`python -m tests.coverage.case NAME DIRECTORY OUTCOME`: one architecture by both approaches; run by the table.

The checkpoint is made in DIRECTORY (with `--real` it is taken from there), the models are written beside it, and the
outcome goes to the file OUTCOME.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import transformers
from msgspec.structs import replace

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.detect import detect_task
from conch.deploy.export import Exported
from conch.deploy.family import Family
from conch.deploy.run import Approach, Order, Written, build, check, make
from conch.deploy.tasks import find_task
from conch.deploy.verify import TOLERANCE, Row, Verification
from conch.errors import ConchError
from conch.inprocess.loaded import loaded_models
from tests import checkpoints
from tests.coverage.outcome import ENGINES, Deployed, Outcome

_TOLERANCE = TOLERANCE["float32"]


def run(name: str, directory: Path, *, real: bool, keep: Callable[[Outcome], None]) -> Outcome:
    """Deploy one checkpoint by both approaches and tell what became of it.

    Args:
        keep: given what is known so far, in case the process does not survive the rest.
    """
    begin = time.monotonic()
    if real:
        source, architecture = directory / name, name
        task = detect_task(Checkpoint(source, name)).name
        absent = []
    else:
        row = checkpoints.ARCHITECTURES[name]
        task, architecture, absent = find_task(row.task).name, row.family, checkpoints.missing(name)
        source = directory if absent else checkpoints.build(name, directory)
    if absent:
        missing = Deployed("missing", reason=f"transformers needs {', '.join(absent)} for it")
        return Outcome(name, task, architecture, missing, missing, real)
    pipeline = deployed(name, task, source, directory, "pipeline")
    so_far = Outcome(name, task, architecture, pipeline, Deployed("failed"), real, generates(source, task))
    keep(so_far)
    ensemble = deployed(name, task, source, directory, "ensemble")
    return replace(so_far, ensemble=ensemble, seconds=round(time.monotonic() - begin, 1))


def deployed(name: str, task: str, source: Path, directory: Path, approach: Approach) -> Deployed:
    """Deploy by one approach into a repository that is thrown away."""
    order = Order(str(source), directory / f"models-{approach}", task=task, name=name, approach=approach, force=True)
    try:
        planned = make(order, _tell, _watch)
        with Family(order.repository, planned.plan.name, force=True) as family:
            written = build(order, planned, family, _tell, _watch)
            if written.approach != approach:
                return Deployed("pipeline", reason=written.reason)
            verification = asyncio.run(check(written, loaded_models, _watch))
    except ConchError as error:
        return Deployed("failed", reason=_one_line(error.message))
    except Exception as error:  # a case must end in a row, whatever a library raises
        return Deployed("failed", reason=_one_line(f"{type(error).__name__}: {error}"))
    return _judged(written, verification)


def generates(source: Path, task: str) -> bool:
    """Whether the pipeline calls `generate`: token after token, which no engine here runs."""
    architectures = Checkpoint(source, "").architectures
    model = getattr(transformers, architectures[0], None) if architectures else None
    return task != "decision" and model is not None and bool(model.can_generate())


def largest_difference(rows: tuple[Row, ...]) -> float | None:
    """The largest difference of numbers, relative to the largest value of their output; None if all is text."""
    found = [row.difference / row.tolerance * _TOLERANCE for row in rows if 0 < row.tolerance < float("inf")]
    return max(found, default=None)


def engines(exported: dict[str, Exported]) -> dict[str, str]:
    """Engine -> "equal", or why it cannot serve the first part that it cannot serve."""
    found = dict.fromkeys(ENGINES, "equal") if exported else {}
    for suffix, each in exported.items():
        for rejection in each.rejected:
            if rejection.kind != "slower" and found[rejection.backend] == "equal":
                found[rejection.backend] = f"{suffix}: {_one_line(rejection.reason)}"
    return found


def _judged(written: Written, verification: Verification) -> Deployed:
    failed = next((row for row in verification.rows if not row.passed), None)
    reason = "; ".join(verification.errors)
    if failed is not None and not reason:
        where = f"{failed.stage}: " if failed.stage else ""
        reason = f"{where}{failed.output} differs by {failed.difference:.2g} {failed.note}".strip()
    exported = dict(written.ensemble.exported) if written.ensemble else {}
    return Deployed(
        "equal" if verification.passed else "failed" if verification.errors else "differs",
        largest_difference(verification.rows),
        _one_line(reason),
        engines(exported),
        {suffix: each.backend for suffix, each in exported.items()},
        tuple(part.suffix for part in written.ensemble.split.parts) if written.ensemble else (),
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _watch(what: str, done: float) -> None:
    _tell(f"{done:4.0%} {what}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.coverage.case", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("directory", type=Path)
    parser.add_argument("outcome", type=Path)
    parser.add_argument("--real", action="store_true")
    arguments = parser.parse_args()

    def keep(outcome: Outcome) -> None:
        arguments.outcome.write_bytes(msgspec.json.encode(outcome))

    keep(run(arguments.name, arguments.directory, real=arguments.real, keep=keep))
    return 0


if __name__ == "__main__":
    sys.exit(main())
