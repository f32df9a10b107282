"""Every difference from Triton that the pages tell has its reason, and a test that shows it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.compat.differences import ON_PURPOSE
from tests.compat.messages import GOLDEN_DIRECTORY, load_golden
from tests.compat.scenarios import GROUPS
from tests.docs.markdown import ROOT, prose

COMPATIBILITY = ROOT / "docs" / "compatibility.md"
REFERENCE = ROOT / "docs" / "reference"
PAGES = (COMPATIBILITY, *(REFERENCE / f"{name}.md" for name in ("http", "grpc", "python_backend", "backends")))
SHOWN_BY = "shown by"

#: A test is named `file.py::test`, a recorded scenario `group: scenario`.
_TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
_SCENARIO = re.compile(r"`(\w+): ([^`]+)`")


def rows(page: Path) -> list[dict[str, str]]:
    """The rows of the page's tables that say what shows them, each by the names of its columns."""
    found: list[dict[str, str]] = []
    columns: list[str] = []
    for line in prose(page).splitlines():
        if not line.startswith("|"):
            columns = []
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not columns:
            columns = cells
        elif SHOWN_BY in columns and not set(line) <= set("|- "):
            assert len(cells) == len(columns), f"{page.name}: {line}"
            found.append(dict(zip(columns, cells, strict=True)))
    return found


@cache
def functions_by_file() -> dict[str, set[str]]:
    """The tests of every file of that name, wherever it is."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        functions = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))
        found.setdefault(path.name, set()).update(function.name for function in functions)
    return found


@cache
def deaths() -> set[tuple[str, str]]:
    """The recorded scenarios that ended a Triton, or that it never answered."""
    return {
        (group.name, exchange.scenario.name)
        for group in GROUPS
        for exchange in load_golden(GOLDEN_DIRECTORY / f"{group.name}.json").exchanges
        if getattr(exchange.answer, "failure", "")
    }


ROWS = [(page, row) for page in PAGES for row in rows(page)]


def test_every_table_of_differences_says_what_shows_them() -> None:
    headers = [line for line in prose(COMPATIBILITY).splitlines() if line.startswith("| what ")]
    assert len(headers) >= 7
    assert [line for line in headers if not line.endswith(f"| {SHOWN_BY} |")] == []
    assert {page for page, _ in ROWS} == set(PAGES)


@pytest.mark.parametrize(("page", "row"), ROWS, ids=[next(iter(row.values()))[:60] for _, row in ROWS])
def test_a_difference_has_its_reason_and_a_test_that_exists(page: Path, row: dict[str, str]) -> None:
    assert all(row.values()), "every cell says something"
    tests, scenarios = _TEST.findall(row[SHOWN_BY]), _SCENARIO.findall(row[SHOWN_BY])
    assert tests or scenarios, f"{page.name} names no test"
    for file, test in tests:
        assert test in functions_by_file().get(file, set()), f"there is no {file}::{test}"
    for scenario in scenarios:
        assert scenario in ON_PURPOSE or scenario in deaths(), f"no recording differs at {scenario}"
