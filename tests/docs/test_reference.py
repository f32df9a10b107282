"""The reference pages say what the code says."""

from __future__ import annotations

import ast
import re
import urllib.request
from pathlib import Path

import grpc
import pytest

from conch import __version__
from conch.cli import reference
from conch.errors import Code, FailureReason
from conch.wire.prometheus import GPU_METRICS
from conch.wire.status import GRPC_STATUS, HTTP_STATUS
from tests.docs.markdown import DOCUMENTS, ROOT

PAGES = ROOT / "docs" / "reference"
ERRORS = (PAGES / "errors.md").read_text()
METRICS = (PAGES / "metrics.md").read_text()


def table_rows(text: str) -> list[list[str]]:
    """The cells of every table row whose first cell is code."""
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_the_command_line_page_is_what_its_generator_writes() -> None:
    written = (PAGES / "cli.md").read_text()
    assert written == reference.page(), "run: python -m conch.cli.reference > docs/reference/cli.md"


def test_the_error_page_has_the_codes_as_the_protocols_translate_them() -> None:
    rows = {row[0].strip("`"): (row[1], row[2]) for row in table_rows(ERRORS) if row[0].strip("`") in Code.__members__}
    names = {status.value[0]: status.name for status in grpc.StatusCode}
    assert rows == {code.name: (str(HTTP_STATUS[code]), names[GRPC_STATUS[code]]) for code in Code}


def source_texts() -> list[str]:
    """Every string of the package, with NUL for what is filled in."""
    texts = []
    for path in (ROOT / "src" / "conch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


SOURCE_TEXTS = source_texts()
#: Python's own, and texts whose first word is filled in from a table.
_ELSEWHERE = re.compile(r"ModuleNotFoundError|[a-z]+ -i |curl ")
_QUOTED = [
    row[0].strip("`")
    for part in ERRORS.split("\n## ")[2:]
    for row in table_rows(part)
    if not _ELSEWHERE.match(row[0].strip("`"))
]


@pytest.mark.parametrize("quoted", _QUOTED)
def test_error_texts_of_the_page_are_texts_of_the_code(quoted: str) -> None:
    """`<...>` in the page is a value that the code fills in; a text may be quoted in part."""
    pieces = [piece for piece in re.split(r"<[a-z][\w ]*>|\.\.\.", quoted) if piece.strip()]
    pattern = re.compile(r"[^\n]*?".join(map(re.escape, pieces)))
    assert any(pattern.search(text) for text in SOURCE_TEXTS)


def test_the_metrics_page_has_the_metrics_that_a_server_shows(metrics_url: str) -> None:
    with urllib.request.urlopen(metrics_url, timeout=60) as answer:
        shown = set(re.findall(r"^# TYPE (\w+) (\w+)$", answer.read().decode(), re.MULTILINE))
    described = {(row[0].strip("`"), row[1]) for row in table_rows(METRICS) if re.match(r"`(nv|conch)_", row[0])}
    of_gpus = {(name, kind) for name, _, kind, _ in GPU_METRICS}
    assert of_gpus <= described
    assert described - of_gpus == shown - of_gpus


def test_the_metrics_page_has_every_reason_of_failure() -> None:
    below = METRICS.split("### Why requests failed")[1].split("\n## ")[0]
    assert [row[0].strip("`") for row in table_rows(below)] == [reason.value for reason in FailureReason]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_metrics_named_anywhere_exist(document: Path) -> None:
    known = {row[0].strip("`") for row in table_rows(METRICS)}
    named = set(re.findall(r"\b((?:nv|conch)_(?:inference|instance|model|cpu)_\w+)", document.read_text()))
    assert {re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name) for name in named} <= known


def test_the_changelog_has_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
