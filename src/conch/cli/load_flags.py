"""What `conch bench` and `conch compare` share: how much load for how long, the progress bar, how failures are told."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from conch.bench.figures import Setting
from conch.bench.measure import Duration
from conch.cli.infer_inputs import InputError

T = TypeVar("T")
N = TypeVar("N", int, float)


def add_load_arguments(parser: argparse.ArgumentParser, concurrency: str) -> None:
    """How much load, and for how long."""
    parser.add_argument(
        "--concurrency",
        metavar="N,N,...",
        help=f"closed loop: requests in flight; default {concurrency} unless --rate is given",
    )
    parser.add_argument("--rate", metavar="R,R,...", help="open loop: requests a second, at random (Poisson)")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="length of a measurement; default 5")
    parser.add_argument("--warmup", type=float, default=1.0, metavar="S", help="load before it is measured; default 1")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="patience with one answer; default 60"
    )


def read_settings(args: argparse.Namespace, default: str) -> list[Setting]:
    """The points of the sweep, closed loops first.

    Raises:
        InputError: a number cannot be read.
    """
    texts = args.concurrency or ("" if args.rate else default)
    closed = [Setting(concurrency=value) for value in _numbers("--concurrency", texts, int)]
    return closed + [Setting(rate=value) for value in _numbers("--rate", args.rate or "", float)]


def read_duration(args: argparse.Namespace) -> Duration:
    """How long to measure.

    Raises:
        InputError: no time to measure in.
    """
    if args.seconds <= 0 or args.warmup < 0 or args.timeout <= 0:
        raise InputError("--seconds and --timeout expect more than 0, --warmup 0 or more")
    return Duration(args.seconds, args.warmup, args.timeout)


def _numbers(flag: str, texts: str, kind: Callable[[str], N]) -> list[N]:
    try:
        values = [kind(text) for text in texts.split(",") if text.strip()]
    except ValueError:
        raise InputError(f"{flag} expects numbers separated by commas, got '{texts}'") from None
    if any(value <= 0 for value in values):
        raise InputError(f"{flag} expects numbers above 0, got '{texts}'")
    return values


def event_loop_run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function on the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:  # not built for every platform
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def fail(command: str, error: Exception, code: int, *, as_json: bool) -> int:
    """Say what went wrong."""
    if as_json:
        print(json.dumps({"error": str(error)}))
    else:
        print(f"conch {command}: error: {error}", file=sys.stderr)
    return code


class ProgressBar:
    """Seconds done and left, on stderr where somebody looks."""

    def __init__(self, total_s: float) -> None:
        from tqdm import tqdm

        layout = "{desc} {bar} {n:.0f}/{total:.0f} s, {remaining} left"
        self._bar: Any = tqdm(total=total_s, bar_format=layout, disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begin(self, setting: Setting, name: str = "") -> None:
        """What is measured now."""
        kind = "concurrency" if setting.concurrency else "rate"
        self._bar.set_description_str(f"{name} {kind} {setting.label}".strip())

    def tick(self, seconds: float) -> None:
        """Time has passed."""
        self._bar.update(seconds)
