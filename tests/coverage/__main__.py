"""`python -m tests.coverage`: deploy every architecture by both approaches, verify, and write docs/coverage.md.

The outcomes are kept in build/coverage.json: `--resume` goes on after an interruption, `--only` does some again and
keeps the others. `--real DIR` adds checkpoints with trained weights, one a directory of DIR.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import msgspec
from tqdm import tqdm

from tests import checkpoints
from tests.coverage import outcome as outcomes
from tests.coverage import table
from tests.coverage.outcome import Deployed, Outcome

_ROOT = Path(__file__).resolve().parents[2]
_RUNNING: set[subprocess.Popen[bytes]] = set()
_VERSIONS = ("transformers", "torch", "onnxruntime", "openvino")


class Case(msgspec.Struct, frozen=True):
    """What one process does. `real` is the directory of checkpoints with trained weights that it comes from."""

    name: str
    task: str
    architecture: str
    real: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    known = outcomes.read(arguments.results)
    cases = every_case(arguments.real)
    if unknown := sorted(set(arguments.only) - set(cases)):
        print(f"unknown names {unknown}; --list shows those there are", file=sys.stderr)
        return 2
    if arguments.list:
        print("\n".join(cases))
        return 0
    chosen = wanted(cases, known, arguments.only, resume=arguments.resume)
    with _interruptible():
        run(chosen, known, arguments)
    listed = {name: known[name] for name in known if name in cases or known[name].real}
    arguments.page.write_text(table.page(listed.values(), _versions()), encoding="utf-8")
    print(f"{table.count(listed.values())}\nwrote {arguments.page}")
    return 0


def every_case(real: Path | None) -> dict[str, Case]:
    """Name -> case, in the order of the table of checkpoints."""
    cases = {name: Case(name, row.task, row.family) for name, row in checkpoints.ARCHITECTURES.items()}
    if real is not None:
        found = sorted(path.name for path in real.iterdir() if (path / "config.json").is_file())
        cases |= {name: Case(name, "", name, real.resolve()) for name in found}
    return cases


def wanted(cases: Mapping[str, Case], known: Mapping[str, Outcome], only: Sequence[str], *, resume: bool) -> list[Case]:
    """The cases to run: those that were named, or all; with `resume` those alone that have no outcome yet."""
    names = [name for name in cases if not only or name in only]
    return [cases[name] for name in names if not resume or name not in known]


def run(cases: Sequence[Case], known: dict[str, Outcome], arguments: argparse.Namespace) -> None:
    """Run the cases, `--jobs` at a time; every outcome is kept at once."""
    shape = "{desc:<44} {n_fmt}/{total_fmt} |{bar}| {elapsed} < {remaining}"
    with (
        ThreadPoolExecutor(arguments.jobs) as pool,
        tqdm(total=len(cases), bar_format=shape, disable=not sys.stderr.isatty()) as bar,
    ):
        running = [pool.submit(run_case, case, arguments.limit) for case in cases]
        for done in as_completed(running):
            found = done.result()
            known[found.name] = found
            outcomes.write(arguments.results, known)
            bar.set_description_str(found.name[:44], refresh=False)
            bar.update()
            bar.write(_line(found))


def run_case(case: Case, limit_s: float) -> Outcome:
    """Run one case in a process of its own. What it leaves behind when it crashes or takes too long is ended too."""
    with tempfile.TemporaryDirectory(prefix="coverage-") as scratch:
        directory, written = Path(scratch), Path(scratch) / "outcome.json"
        if case.real:
            (directory / case.name).symlink_to(case.real / case.name)
        command = [sys.executable, "-m", "tests.coverage.case", case.name, scratch, str(written)]
        command += ["--real"] if case.real else []
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=_ROOT, start_new_session=True)
            _RUNNING.add(process)
            try:
                process.wait(limit_s)
                ended = f"the process ended with {process.returncode}"
            except subprocess.TimeoutExpired:
                ended = f"it took more than {limit_s:.0f} s"
            finally:
                _end_group(process)
        lines = _without_paths((directory / "log").read_text(errors="replace"), scratch).strip().splitlines() or [""]
        failed = Deployed("failed", reason=f"{ended}: {lines[-1]}")
        if not written.is_file():
            return Outcome(case.name, case.task, case.architecture, failed, failed, case.real is not None)
        found = msgspec.json.decode(_without_paths(written.read_text(encoding="utf-8"), scratch), type=Outcome)
        return found if process.returncode == 0 else msgspec.structs.replace(found, ensemble=failed)


def _without_paths(text: str, scratch: str) -> str:
    """The text with "..." for what lies in the scratch directory: its name is another one each time."""
    return re.sub(re.escape(scratch) + r"[\w./-]*", "...", text)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and those that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()
        _RUNNING.discard(process)


def _line(found: Outcome) -> str:
    engines = " ".join(
        f"{name}={'equal' if text == 'equal' else 'NO'}" for name, text in found.ensemble.engines.items()
    )
    states = f"pipeline {found.pipeline.state}, ensemble {found.ensemble.state} {engines}".strip()
    return f"{found.name}: {states} ({found.seconds:.0f} s) {'; '.join(table.reasons(found))}".rstrip()


def _versions() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name).partition('+')[0]}" for name in _VERSIONS)


@contextmanager
def _interruptible() -> Iterator[None]:
    """End by Ctrl-C or SIGTERM at once: what is done is kept, what runs is ended with all that it started."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        for process in tuple(_RUNNING):
            _end_group(process)
        print("interrupted: --resume goes on", file=sys.stderr)
        os._exit(130)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.coverage", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these architectures alone")
    parser.add_argument("--resume", action="store_true", help="only what has no outcome yet")
    parser.add_argument("--real", type=Path, metavar="DIR", help="checkpoints with trained weights, one a directory")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="cases at a time; default 2")
    parser.add_argument("--limit", type=float, default=600, metavar="SECONDS", help="time of one case; default 600")
    parser.add_argument("--results", type=Path, default=_ROOT / "build" / "coverage.json", metavar="FILE")
    parser.add_argument("--page", type=Path, default=_ROOT / "docs" / "coverage.md", metavar="FILE")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
