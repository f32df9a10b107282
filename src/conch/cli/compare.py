"""`conch compare`: deployed models, or the two approaches to one checkpoint, side by side."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from conch.bench.comparison import Column, Plan, compare
from conch.bench.comparison_report import document, tell
from conch.bench.processes import CONCH, Running, Subject, running
from conch.bench.sweep import Progress
from conch.cli.infer_inputs import InputError
from conch.cli.load_flags import (
    ProgressBar,
    add_load_arguments,
    event_loop_run,
    fail,
    read_duration,
    read_settings,
)
from conch.cli.load_inputs import add_input_arguments, read_order
from conch.errors import ConchError, InvalidArgumentError, UnavailableError

_DEFAULT_CONCURRENCY = "1,8"
_APPROACHES = ("pipeline", "ensemble")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "conch compare MODEL [MODEL ...] [flags]"
    parser.epilog = (
        "examples: conch compare models/clip models/clip-ensemble; conch compare openai/clip-vit-base-patch32"
    )
    parser.add_argument(
        "model",
        nargs="+",
        help="directories of deployed models (models/clip), or one checkpoint, which is deployed by both approaches",
    )
    add_input_arguments(parser)
    parser.add_argument("-o", "--output", action="append", default=[], metavar="NAME", help="only this output")
    add_load_arguments(parser, _DEFAULT_CONCURRENCY)
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="turns of each model; default 2")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http")
    parser.add_argument(
        "--peer",
        metavar="COMMAND",
        help="measure each model on this server too; {repository}, {model}, {http}, {grpc}, {metrics} are filled in",
    )
    parser.add_argument(
        "--start-limit", type=float, default=300.0, metavar="S", help="how long a server may take; default 300"
    )
    parser.add_argument(
        "--deploy", default="", metavar="FLAGS", help="further flags of conch deploy, e.g. '--quantize int8'"
    )
    parser.add_argument("--model-repository", type=Path, metavar="DIR", help="keep what is deployed in this directory")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Compare; returns 0, 1 when a model cannot be deployed, served or measured, 2 for a wrong command line."""
    try:
        settings = read_settings(args, _DEFAULT_CONCURRENCY)
        if args.rounds < 1:
            raise InputError(f"--rounds expects 1 or more, got {args.rounds}")
        plan = Plan(args.protocol, settings, read_duration(args), args.rounds)
        with contextlib.ExitStack() as stack:
            subjects = _subjects(args, stack)
            servers = [_start(subject, args, stack) for subject in subjects]
            columns = event_loop_run(lambda: _measure(args, servers, plan))
    except (InputError, InvalidArgumentError) as error:
        return fail("compare", error, 2, as_json=args.json)
    except ConchError as error:
        return fail("compare", error, 1, as_json=args.json)
    print(json.dumps({"models": document(columns)}, indent=2) if args.json else tell(columns))
    silent = next((column for column in columns if not any(figures.throughput for figures in column.figures)), None)
    if silent is not None:
        print(
            f"conch compare: error: {silent.label} answered nothing: {silent.figures[0].first_error}", file=sys.stderr
        )
        return 1
    return 0


def _start(subject: Subject, args: argparse.Namespace, stack: contextlib.ExitStack) -> Running:
    print(f"starting {subject.label}", file=sys.stderr)
    return stack.enter_context(running(subject, args.start_limit))


async def _measure(args: argparse.Namespace, servers: Sequence[Running], plan: Plan) -> list[Column]:
    one_s = plan.duration.warmup_s + plan.duration.seconds
    with ProgressBar(len(servers) * len(plan.settings) * plan.rounds * one_s) as bar:

        def progress(label: str) -> Progress:
            return Progress(lambda setting: bar.begin(setting, label), bar.tick)

        return await compare(servers, plan, lambda target: read_order(args, target), progress)


def _subjects(args: argparse.Namespace, stack: contextlib.ExitStack) -> list[Subject]:
    deployed = [_is_deployed(Path(model)) for model in args.model]
    if all(deployed):
        directories = [Path(model).resolve() for model in args.model]
    elif len(args.model) == 1:
        repository = args.model_repository or Path(stack.enter_context(_temporary()))
        directories = _deploy_both(args, repository)
    else:
        wrong = args.model[deployed.index(False)]
        raise InputError(
            f"'{wrong}' is no deployed model: expected directories with a config.pbtxt (models/NAME), or one checkpoint"
        )
    return list(_with_peers(directories, args.peer))


def _with_peers(directories: Sequence[Path], peer: str | None) -> Iterator[Subject]:
    names = [directory.name for directory in directories]
    for directory in directories:
        unique = names.count(directory.name) == 1
        label = directory.name if unique else f"{directory.parent.name}/{directory.name}"
        yield Subject(label, directory.parent, directory.name, CONCH)
        if peer:
            yield Subject(f"{label} on {Path(shlex.split(peer)[0]).name}", directory.parent, directory.name, peer)


def _is_deployed(directory: Path) -> bool:
    if (directory / "config.pbtxt").is_file():
        return True
    return directory.is_dir() and any((version / "model.py").is_file() for version in directory.glob("[0-9]*"))


def _temporary() -> contextlib.AbstractContextManager[str]:
    return tempfile.TemporaryDirectory(prefix="conch-compare-")


def _deploy_both(args: argparse.Namespace, repository: Path) -> list[Path]:
    """Deploy a checkpoint by each approach, in a process of its own so that no library stays in this one.

    Raises:
        UnavailableError: one of them failed; the text is that of `conch deploy`.
    """
    directories = []
    for approach in _APPROACHES:
        print(f"deploying {args.model[0]} by the approach '{approach}'", file=sys.stderr)
        name = f"{_name(args.model[0])}-{approach}"
        command = [sys.executable, "-m", "conch", "deploy", args.model[0], f"--approach={approach}", f"--name={name}"]
        command += [f"--model-repository={repository}", "--force", "--json", *shlex.split(args.deploy)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        try:
            report = json.loads(ended.stdout)
        except ValueError:
            report = {}
        if "directory" not in report:
            reason = report.get("error") or f"conch deploy ended with {ended.returncode}"
            raise UnavailableError(f"the approach '{approach}' failed: {reason}")
        if report.get("approach", approach) != approach:
            raise UnavailableError(f"the approach '{approach}' is not possible: {report.get('reason', 'see above')}")
        if not Path(report["directory"]).is_dir():  # the verification refused it
            raise UnavailableError(
                f"the approach '{approach}' does not answer as the library does; see conch deploy {args.model[0]} "
                f"--approach={approach}"
            )
        directories.append(Path(report["directory"]).resolve())
    return directories


def _name(model: str) -> str:
    from conch.deploy.plan import default_name

    local = Path(model).expanduser()
    return default_name(local.resolve().name if local.is_dir() else model)
