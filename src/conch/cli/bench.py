"""`conch bench`: put load on a served model and print throughput and latency."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conch.bench import plot, report
from conch.bench.figures import Setting, as_json
from conch.bench.measure import Duration
from conch.bench.sweep import Progress, Server, Sweep, open_wire, sweep
from conch.bench.target import describe
from conch.cli.infer_inputs import InputError
from conch.cli.load_flags import ProgressBar, add_load_arguments, event_loop_run, fail, read_duration, read_settings
from conch.cli.load_inputs import add_input_arguments, read_order
from conch.errors import ConchError, InvalidArgumentError

_DEFAULT_CONCURRENCY = "1,4,8,16,32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "conch bench MODEL [flags]"
    parser.epilog = "example: conch bench clip --concurrency 1,8 -i text='a red circle' -i text='a blue square'"
    parser.add_argument("model", help="name of the model")
    add_input_arguments(parser)
    parser.add_argument("-o", "--output", action="append", default=[], metavar="NAME", help="only this output")
    add_load_arguments(parser, _DEFAULT_CONCURRENCY)
    parser.add_argument("--model-version", default="", help="version; the newest when not given")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http")
    parser.add_argument("--url", default="", help="host:port of the server; default localhost:8000 (grpc: 8001)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw latency against throughput: .svg or .png")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure; returns 0, 1 when the server cannot be asked or answers nothing, 2 for a wrong command line."""
    try:
        settings = read_settings(args, _DEFAULT_CONCURRENCY)
        duration = read_duration(args)
        if args.plot:
            plot.check_format(args.plot)
        result = event_loop_run(lambda: _measure(args, settings, duration))
    except (InputError, InvalidArgumentError) as error:
        return fail("bench", error, 2, as_json=args.json)
    except ConchError as error:
        return fail("bench", error, 1, as_json=args.json)
    if args.plot:
        args.plot.write_bytes(plot.draw(args.plot, f"{result.target.name}, {args.protocol}", result.measurements))
    if args.json:
        print(json.dumps(_document(result), indent=2))
    else:
        _tell(result)
    if not result.complete:
        print(f"conch bench: error: {_why_incomplete(result)}", file=sys.stderr)
        return 1
    return 0


def _why_incomplete(result: Sweep) -> str:
    failure = result.measurements[-1].first_error
    if failure:
        return f"every request failed: {failure}"
    return "no request was answered in the time measured; measure longer: --seconds N"


async def _measure(args: argparse.Namespace, settings: Sequence[Setting], duration: Duration) -> Sweep:
    wire = open_wire(Server(args.protocol, args.url, args.timeout))
    target = await describe(wire, args.model, args.model_version)
    order = read_order(args, target)
    with ProgressBar(len(settings) * (duration.warmup_s + duration.seconds)) as bar:
        return await sweep(wire, target, order, settings, duration, Progress(bar.begin, bar.tick))


def _tell(result: Sweep) -> None:
    print(_headline(result))
    print(report.sweep_table(result.measurements))
    last = result.measurements[-1]
    if last.statistics:
        print(f"\nserver, at {last.setting.label}, a request:\n{report.stage_table(last.statistics)}")
    for note in report.notes(result.measurements):
        print(f"note: {note}")


def _headline(result: Sweep) -> str:
    target, first = result.target, result.calls[0]
    sent = ", ".join(f"{tensor.name} {tensor.datatype.value} {list(tensor.shape)}" for tensor in first.inputs)
    given = f" {dict(first.parameters)}" if first.parameters else ""
    task = f" ({target.task})" if target.task else ""
    return f"{target.name}{task}: {len(result.calls)} different requests, the first: {sent}{given}"


def _document(result: Sweep) -> dict[str, Any]:
    target, first = result.target, result.calls[0]
    return {
        "model": target.name,
        "task": target.task,
        "requests": len(result.calls),
        "batch": result.batch,
        "inputs": [
            {"name": tensor.name, "datatype": tensor.datatype.value, "shape": list(tensor.shape)}
            for tensor in first.inputs
        ],
        "outputs": list(first.outputs),
        "parameters": dict(first.parameters),
        "measurements": [as_json(each) for each in result.measurements],
        "notes": report.notes(result.measurements),
    }
