"""The tutorial, command by command, against a running server: what it promises is what happens.

The steps build on each other: run the whole module.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

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
