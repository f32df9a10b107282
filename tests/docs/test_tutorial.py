"""The tutorial, command by command, against a running server: what it promises is what happens.

The steps build on each other: run the whole module.
"""

from __future__ import annotations

import argparse
import doctest
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from conch.cli import deploy
from conch.deploy.plan import CheckpointFacts, Choices, make_plan
from conch.deploy.run import Written
from conch.deploy.tasks import find_task
from conch.deploy.verify import Row, Verification
from tests.docs.conftest import Workplace
from tests.docs.markdown import ROOT, Fence, fences

#: Blocks with such a command are only parsed: they install, stop or never end.
_NOT_RUN = re.compile(r"^(conch (serve|deploy|doctor)|pip |docker |make |kill )", re.MULTILINE)

TUTORIAL = ROOT / "docs" / "tutorial.md"


def steps() -> Iterator[tuple[Fence, str]]:
    """What a reader runs, in order, each with the output that is shown after it ("" for none)."""
    listed = [fence for fence in fences(TUTORIAL) if not fence.file]
    for fence, after in pairwise([*listed, Fence(TUTORIAL, 0, "", "")]):
        if fence.language == "python" or (fence.language == "sh" and not _NOT_RUN.search(fence.text)):
            yield fence, after.text if after.language == "text" else ""


STEPS = list(steps())


def test_the_tutorial_names_its_files_and_shows_what_its_commands_print() -> None:
    assert [fence.file for fence in fences(TUTORIAL) if fence.file] == [
        "models/words/config.pbtxt",
        "models/words/1/model.py",
    ]
    assert sum(1 for fence, _ in STEPS if fence.language == "python") == 3
    assert sum(1 for _, output in STEPS if output) > 10


def test_the_deploy_of_the_tutorial_ends_with_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    listed = fences(TUTORIAL)
    [(command, shown)] = [(a.text, b.text) for a, b in pairwise(listed) if a.text.startswith("conch deploy ")]
    args = argparse.ArgumentParser()
    deploy.add_arguments(args)
    asked = args.parse_args(shlex.split(command)[2:])
    task = find_task("zero-shot-image-classification")
    plan = make_plan(asked.name, task, asked.model, CheckpointFacts(sizes={}), Choices())
    rows = tuple(Row(output.name, 0.0, 0.0) for output in plan.outputs)
    written = Written(plan, Any, asked.model_repository / plan.name, Any)  # type: ignore[arg-type]
    deploy._tell(written, Verification(rows), kept=False)
    first, _, rest = shown.partition("\n")
    assert first == f"{asked.model}: {task.name} ({task.summary})"
    printed = capsys.readouterr().out
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(rest, printed, flags), f"expected:\n{rest}\ngot:\n{printed}"


@pytest.mark.parametrize(("fence", "output"), STEPS, ids=[str(fence) for fence, _ in STEPS])
def test_a_step_of_the_tutorial_prints_what_is_shown(fence: Fence, output: str, workplace_server: Workplace) -> None:
    script = workplace_server.adapt(fence.text)
    runner = ["python3", "-c"] if fence.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    ran = workplace_server.run([*runner, script])
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}\n{workplace_server.server.log_text()}"
    wanted = re.sub(r"in \d\.\d\d s", "in ... s", output)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if wanted:
        assert doctest.OutputChecker().check_output(wanted, ran.stdout, flags), (
            f"expected:\n{wanted}\ngot:\n{ran.stdout}"
        )
