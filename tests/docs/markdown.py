"""What the tests read out of a Markdown document: fences, commands, links, headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

#: A line that says where the file in the next fence goes: "... , `models/words/1/model.py`:".
_FILE_LINE = re.compile(r"`([\w.-]+/[\w./-]+)`:$")
_FENCE = re.compile(r"^ *```(\w*)[^`]*$")


class Fence(msgspec.Struct, frozen=True):
    """A fenced block.

    Attributes:
        line: number of the line that opens it, from 1.
        file: the path that the line before it names; "" for none.
    """

    document: Path
    line: int
    language: str
    text: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def fences(document: Path, *languages: str) -> Iterator[Fence]:
    """The fenced blocks of a document, in order; all languages when none is given."""
    language, opened_at, file = "", 0, ""
    content: list[str] = []
    before = ""
    for number, line in enumerate(document.read_text().splitlines(), start=1):
        matched = _FENCE.match(line)
        if matched and not opened_at:
            named = _FILE_LINE.search(before)
            language, opened_at, file, content = matched[1], number, named[1] if named else "", []
        elif matched:
            if not languages or language in languages:
                yield Fence(document, opened_at, language, "\n".join(content) + "\n", file)
            opened_at, before = 0, ""
        elif opened_at:
            content.append(line)
        else:
            before = line.strip() or before
    assert not opened_at, f"{document}:{opened_at}: the fence is not closed"


def all_fences(*languages: str) -> list[Fence]:
    return [fence for document in DOCUMENTS for fence in fences(document, *languages)]


def conch_commands(fence: Fence) -> Iterator[list[str]]:
    """The words of each command of a shell block that starts with `conch`."""
    for line in fence.text.replace("\\\n", " ").splitlines():
        if line.strip().startswith("conch "):
            yield shlex.split(line, comments=True)


def prose(document: Path) -> str:
    """The document without its fenced blocks."""
    lines, inside = [], False
    for line in document.read_text().splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            lines.append(line)
    return "\n".join(lines)


def links(document: Path) -> list[str]:
    """Targets of the document's inline links."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(document)))


def anchors(document: Path) -> set[str]:
    """The anchors GitHub gives the document's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?)\s*$", prose(document), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number, anchor = 0, slug
        while anchor in found:
            number += 1
            anchor = f"{slug}-{number}"
        found.add(anchor)
    return found
