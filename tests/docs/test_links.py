"""Links between documents lead somewhere, and every document can be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.markdown import DOCUMENTS, ROOT, anchors, links, prose


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings(document: Path) -> None:
    broken = []
    for link in links(document):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_document_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    missing = [
        str(path.relative_to(ROOT)) for path in DOCUMENTS if path.parent != ROOT and path not in {*linked, index}
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_files_named_in_the_text_exist(document: Path) -> None:
    """`wire/http/router.py`, `tests/unit/core/test_x.py`: paths with a folder, under the root or the package."""
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)`", prose(document)))
    places = (ROOT, ROOT / "src", ROOT / "src" / "conch")
    ours = {name for name in named if not name.startswith(("models/", "model_repository/"))}
    assert [name for name in sorted(ours) if not any((place / name).is_file() for place in places)] == []
