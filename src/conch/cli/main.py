"""The command `conch`. Each subcommand is a module of `conch.cli`, imported only when it is asked for."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from conch import __version__

#: Subcommand -> one line of help; the module of that name has `add_arguments(parser)` and `run(args) -> int`.
COMMANDS = {
    "serve": "run the server on a model repository",
    "deploy": "turn a HuggingFace model into a model of the repository",
    "tasks": "list the tasks that deploy knows, by approach, and what is missing here",
    "infer": "call a served model",
    "bench": "measure throughput and latency of a served model",
    "compare": "measure deployed models, or the two approaches, side by side",
    "doctor": "show versions, extras and devices, and what is missing",
}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors fit on a line or two and suggest the nearest flag."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message}\ntry: {self.prog} --help", file=sys.stderr)
        sys.exit(2)

    def refuse_unknown(self, unknown: Sequence[str]) -> NoReturn:
        first = unknown[0]
        name = first.partition("=")[0]
        known = [option for action in self._actions for option in action.option_strings]
        close = difflib.get_close_matches(name, known, n=1)
        if not name.startswith("-"):
            self.error(f"unexpected argument '{first}'")
        self.error(f"unknown flag '{name}'" + (f"; did you mean '{close[0]}'?" if close else ""))


class _Terminated(SystemExit):
    """SIGTERM came."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code.

    With `argv` None it is that of this process, which ends here where it is interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else ""
    if command not in COMMANDS:
        return _without_command(arguments)
    parser = _Parser(prog=f"conch {command}", description=COMMANDS[command], allow_abbrev=False)
    module = importlib.import_module(f"conch.cli.{command}")
    module.add_arguments(parser)
    args, unknown = parser.parse_known_args(arguments[1:])
    if unknown:
        parser.refuse_unknown(unknown)
    if command != "serve":  # which drains
        signal.signal(signal.SIGTERM, _end)
    try:
        code: int = module.run(args)
    except (KeyboardInterrupt, _Terminated) as interruption:
        code = 128 + (signal.SIGTERM if isinstance(interruption, _Terminated) else signal.SIGINT)
        if argv is None:
            _leave(code)
        if isinstance(interruption, _Terminated):
            raise
    return code


def _leave(code: int) -> NoReturn:
    """End the process, whose command has cleared away what it began, without taking its libraries apart.

    An interpreter with torch and transformers in it needs seconds for that.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does: what was begun is cleared away, processes that were started end."""
    raise _Terminated(128 + number)


def _without_command(arguments: Sequence[str]) -> int:
    listed = "\n".join(f"  {name:<8} {text}" for name, text in COMMANDS.items())
    usage = f"usage: conch COMMAND [flags]\n\n{listed}\n\nconch COMMAND --help shows the flags of one."
    first = arguments[0] if arguments else ""
    if first in ("-h", "--help", "help"):
        print(usage)
        return 0
    if first in ("-V", "--version"):
        print(f"conch {__version__}")
        return 0
    if first:
        close = difflib.get_close_matches(first, COMMANDS, n=1)
        print(
            f"conch: error: unknown command '{first}'" + (f"; did you mean '{close[0]}'?" if close else ""),
            file=sys.stderr,
        )
    print(usage, file=sys.stderr)
    return 2
