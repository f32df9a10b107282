"""Every fenced block of README and docs: it parses, and where it can run it runs."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
from pathlib import Path

import pytest

from conch.cli.flags import FLAGS
from conch.cli.main import COMMANDS
from conch.cli.serve import read_options
from conch.config import pbtxt, validate
from tests.docs.conftest import Workplace
from tests.docs.markdown import DOCUMENTS, ROOT, Fence, all_fences, conch_commands, prose

#: Flags of other programs that documents mention.
_FOREIGN_FLAGS = {"--shm-size"}

_PYTHON = all_fences("python", "py")
#: Complete programs that call a server on its default ports; the tutorial's are run in its own order.
_CLIENTS = [
    fence
    for fence in _PYTHON
    if re.search(r"^(import|from) ", fence.text, re.MULTILINE)
    and re.search(r"localhost:800[012]", fence.text)
    and fence.document.name != "tutorial.md"
]
#: Complete programs that have conch inside.
_PROGRAMS = [fence for fence in _PYTHON if re.search(r"^import conch$", fence.text, re.MULTILINE)]
_COMMANDS = [
    (fence, words) for fence in all_fences("", "sh", "bash", "shell", "console") for words in conch_commands(fence)
]


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"conch {command}", allow_abbrev=False)
    importlib.import_module(f"conch.cli.{command}").add_arguments(parser)
    return parser


@pytest.mark.parametrize("fence", _PYTHON, ids=str)
def test_python_blocks_compile(fence: Fence) -> None:
    ast.parse(fence.text, str(fence))


@pytest.mark.parametrize("fence", _CLIENTS, ids=str)
def test_client_programs_run(fence: Fence, workplace_server: Workplace) -> None:
    ran = workplace_server.run(["python3", "-c", workplace_server.adapt(fence.text)])
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


@pytest.mark.parametrize("fence", _PROGRAMS, ids=str)
def test_programs_with_conch_inside_run(fence: Fence, workplace_server: Workplace) -> None:
    ran = workplace_server.run(["python3", "-W", "error", "-c", fence.text])
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


def test_the_readme_has_a_client_program() -> None:
    assert any(fence.document.name == "README.md" for fence in _CLIENTS)


@pytest.mark.parametrize(("fence", "words"), _COMMANDS, ids=[f"{fence} {words[1]}" for fence, words in _COMMANDS])
def test_commands_are_understood(fence: Fence, words: list[str]) -> None:
    command, arguments = words[1], words[2:]
    if command.startswith("-"):
        assert command in ("--help", "--version")
        return
    assert command in COMMANDS
    if "--help" in arguments:
        return
    given, unknown = parser_of(command).parse_known_args(arguments)
    assert not unknown
    if command == "serve":
        read_options(vars(given))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_flags_named_in_the_text_exist(document: Path) -> None:
    known = {f"--{flag.name}" for flag in FLAGS} | _FOREIGN_FLAGS | {"--help", "--version"}
    for command in COMMANDS:
        known |= {option for action in parser_of(command)._actions for option in action.option_strings}
    spans = re.findall(r"`([^`\n]+)`", prose(document))
    named = {flag for span in spans if "conch." not in span for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)}
    assert named <= known


@pytest.mark.parametrize("fence", all_fences("pbtxt", "proto", "prototxt"), ids=str)
def test_configurations_parse_and_keep_the_rules(fence: Fence) -> None:
    message = pbtxt.parse(fence.text, str(fence))
    if message.input and message.output:
        message.name = message.name or "model"
        assert validate.violations(message, complete=True) == []


@pytest.mark.parametrize("fence", all_fences("json"), ids=str)
def test_json_blocks_parse(fence: Fence) -> None:
    assert json.loads(fence.text) is not None


@pytest.mark.parametrize("fence", all_fences("yaml", "yml"), ids=str)
def test_yaml_blocks_parse(fence: Fence) -> None:
    yaml = pytest.importorskip("yaml")
    assert all(part is not None for part in yaml.safe_load_all(fence.text))


def test_make_targets_named_anywhere_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(), re.MULTILINE)
    }
    assert "run" in named
    assert named <= targets
