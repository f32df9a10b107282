"""The command line as a page: `python -m conch.cli.reference > docs/reference/cli.md`."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from itertools import groupby

from conch.cli.flags import FLAGS, Flag, Kind, Use
from conch.cli.main import COMMANDS

_HEAD = """\
# Command line

This page is written by `python -m conch.cli.reference` from the tables and parsers that read the command line. `conch
COMMAND --help` shows the same in a terminal; a wrong flag is answered with the nearest right one and exit code 2.
`python -m conch` is the same as `conch`.
"""

_SERVE = """\
These are tritonserver's flags, so that its command lines work as they are. `--http-port 80` and `--http-port=80` are
the same; a boolean flag alone means true. Each flag is one of:

- **implemented**: it does what it says.
- **ignored**: accepted, a note says that it has no effect.
- **deprecated**: accepted, a note names its successor.

Exit codes: 0 after a graceful stop (SIGTERM or SIGINT; a second SIGINT ends at once), 1 when the server could not
start, 2 for a wrong command line.
"""

_NOTES = {
    "deploy": "Exit codes: 0, 1 when it failed or the model does not answer as the library does, 2 for a wrong command "
    "line.\nThe tasks are described in [tasks](tasks.md), the whole in [deploying models](../guides/deploy.md).",
    "tasks": "Exit code: 0. `ensemble` says how the parts are made, the first that fits the checkpoint: light (a "
    "preprocess without\ntransformers), the pipeline's own steps around the exported network, or a Python model that "
    "generates. What was deployed and\nverified: [coverage](../coverage.md).",
    "infer": "Exit codes: 0, 1 for a failed call, 2 for arguments that do not fit the model.",
    "bench": "Exit codes: 0, 1 when the server cannot be asked or a load got no answer at all, 2 for a wrong command "
    "line.\nWhat is measured and how: [measuring a model](../guides/bench.md).",
    "compare": "Exit codes: 0, 1 when a model cannot be deployed, served or measured, 2 for a wrong command line.\n"
    "What the figures mean: [comparing models](../guides/compare.md).",
    "doctor": "Exit codes: 0, or 1 when something is missing that the server itself needs.",
}


def page() -> str:
    """The page as Markdown."""
    lines = [_HEAD, "| command | |\n|---|---|"]
    lines += [f"| [`conch {name}`](#conch-{name}) | {text} |" for name, text in COMMANDS.items()]
    for name, summary in COMMANDS.items():
        lines += ["", f"## conch {name}\n", f"{summary[0].upper()}{summary[1:]}.\n"]
        lines += _serve() if name == "serve" else _command(name)
    return "\n".join(lines).rstrip() + "\n"


def _serve() -> Iterator[str]:
    yield "```text\nconch serve --model-repository=DIRECTORY [flags]\n```\n"
    yield _SERVE
    for group, flags in groupby(FLAGS, key=lambda flag: flag.group):
        yield f"### {group}\n"
        yield "| flag | value | default | | |\n|---|---|---|---|---|"
        yield from map(_flag_row, flags)
        yield ""


def _flag_row(flag: Flag) -> str:
    value = " \\| ".join(flag.choices) if flag.choices else flag.kind.value
    if flag.repeatable:
        value += ", repeatable"
    default = str(flag.default).lower() if flag.kind is Kind.BOOLEAN else str(flag.default)
    use = "" if flag.use is Use.IMPLEMENTED else f"**{flag.use.value}**"
    return f"| `--{flag.name}` | {value} | {f'`{default}`' if default else ''} | {use} | {_cell(flag.help)} |"


def _command(name: str) -> Iterator[str]:
    parser = argparse.ArgumentParser(prog=f"conch {name}", add_help=False)
    importlib.import_module(f"conch.cli.{name}").add_arguments(parser)
    yield f"```text\n{_usage(parser)}\n```\n"
    actions = [action for group in parser._action_groups for action in group._group_actions]
    yield "| argument | value | default | |\n|---|---|---|---|"
    yield from map(_action_row, actions)
    yield f"\n{_NOTES[name]}"


def _usage(parser: argparse.ArgumentParser) -> str:
    """One line: the positional arguments, which must be given; flags are in the table."""
    if parser.usage:
        return parser.usage
    words = [str(action.metavar or action.dest).upper() for action in parser._actions if not action.option_strings]
    flags = ["[flags]"] if any(action.option_strings for action in parser._actions) else []
    return " ".join([parser.prog, *words, *flags])


def _action_row(action: argparse.Action) -> str:
    called = ", ".join(f"`{option}`" for option in action.option_strings) or str(action.dest).upper()
    value = ""
    if action.choices is not None:
        value = " \\| ".join(map(str, action.choices))
    elif action.nargs != 0 and action.option_strings:
        value = str(action.metavar or action.dest.upper())
    if isinstance(action.default, list):
        value += ", repeatable"
    default = "" if action.default in (None, "", False) or isinstance(action.default, list) else f"`{action.default}`"
    return f"| {called} | {value} | {default} | {_cell(action.help or '')} |"


def _cell(text: str) -> str:
    """Text for a table cell: placeholders and wildcards are code, or Markdown would eat them."""
    escaped = text.replace("|", "\\|").replace("%%", "%")
    return re.sub(r"(?<!`)(configs/<\w+>\.\w+|<[^ ]+>[^ ;]*|\*(?= for all))", r"`\1`", escaped)


if __name__ == "__main__":
    print(page(), end="")
