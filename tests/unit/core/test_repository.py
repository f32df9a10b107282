"""Directories of models, looked at while somebody changes them; several as one list."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from conch.core.catalog import DUPLICATE, Catalog
from conch.core.repository import LocalRepository, RenamedRepository, Snapshot, fingerprint
from conch.errors import UnavailableError


def make(root: Path, *models: str) -> Path:
    for model in models:
        (root / model / "1").mkdir(parents=True)
        (root / model / "1" / "model.py").write_text("code")
    return root


def test_models_are_the_directories_that_are_not_hidden(tmp_path: Path) -> None:
    make(tmp_path, "b", "a", ".hidden")
    (tmp_path / "README").touch()
    repository = LocalRepository(str(tmp_path))
    assert repository.models() == ["a", "b"]
    assert (tmp_path / "late").mkdir() is None
    assert repository.models() == ["a", "b", "late"]


def test_a_fingerprint_changes_with_what_is_in_a_model_but_not_with_bytecode(tmp_path: Path) -> None:
    directory = make(tmp_path, "m") / "m"
    seen = [fingerprint(directory)]
    (directory / "1" / "__pycache__").mkdir()
    (directory / "1" / "__pycache__" / "model.pyc").touch()
    assert fingerprint(directory) == seen[0]
    for change in (
        lambda: (directory / "2").mkdir(),
        lambda: (directory / "1" / "model.py").write_text("other code"),
        lambda: (directory / "1" / "more").touch(),
        lambda: (directory / "1" / "model.py").unlink(),
        lambda: (directory / "2").rmdir(),
    ):
        change()
        seen.append(fingerprint(directory))
    assert len(set(seen)) == len(seen)


def test_a_file_that_is_replaced_by_one_of_equal_size_and_time_is_another(tmp_path: Path) -> None:
    directory = make(tmp_path, "m") / "m"
    model = directory / "1" / "model.py"
    before, times = fingerprint(directory), model.stat()
    (tmp_path / "new").write_text("CODE")
    os.utime(tmp_path / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "new").rename(model)
    assert fingerprint(directory) != before


def test_links_are_followed_and_may_lead_in_circles(tmp_path: Path) -> None:
    directory = make(tmp_path / "models", "m") / "m"
    elsewhere = make(tmp_path / "elsewhere", "weights") / "weights"
    (directory / "2").symlink_to(elsewhere, target_is_directory=True)
    (directory / "1" / "again").symlink_to(directory, target_is_directory=True)
    before = fingerprint(directory)
    (elsewhere / "1" / "model.py").write_text("changed")
    assert fingerprint(directory) != before


def test_what_vanishes_while_it_is_looked_at_counts_as_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make(tmp_path, "m") / "m"
    (directory / "2").mkdir()
    walk = os.walk

    def vanishing(top: Path, **options: bool) -> object:
        for root, directories, files in walk(top, **options):
            yield root, directories, files
            if root == str(top):
                (directory / "1" / "model.py").unlink()
                (directory / "2").rmdir()

    expected = fingerprint(directory)
    monkeypatch.setattr(os, "walk", vanishing)
    assert fingerprint(directory) != expected
    monkeypatch.undo()
    assert fingerprint(tmp_path / "gone") == fingerprint(tmp_path / "gone too")


class Store:
    """A repository that can be out of reach."""

    def __init__(self, location: str, digests: dict[str, str]) -> None:
        self.location = location
        self.digests = digests
        self.out_of_reach = False

    def models(self) -> Sequence[str]:
        return sorted(self.digests)

    async def look(self) -> None:
        if self.out_of_reach:
            raise UnavailableError("out of reach")

    async def fetch(self, name: str) -> Snapshot:
        return Snapshot(Path("/nowhere") / name, self.digests[name])

    async def fingerprints(self) -> Mapping[str, str]:
        await self.look()
        return dict(self.digests)


def test_a_name_in_two_repositories_is_of_no_use_unless_they_are_namespaces() -> None:
    stores = [Store("/b", {"m": "1", "only": "2"}), Store("/a", {"m": "3"})]
    entries = Catalog(stores).entries()
    assert {key: entry.problem for key, entry in entries.items()} == {"m": DUPLICATE, "only": ""}
    spaces = Catalog(stores, namespacing=True)
    assert list(spaces.entries()) == ["/a::m", "/b::m", "/b::only"]
    assert [entry.namespace for entry in spaces.named("m")] == ["/a", "/b"]
    assert asyncio.run(spaces.fingerprints()) == {"/a::m": "3", "/b::m": "1", "/b::only": "2"}
    assert asyncio.run(Catalog(stores).fingerprints()) == {"only": "2"}


def test_a_repository_out_of_reach_is_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    stores = [Store("one", {"m": "1"}), Store("two", {"n": "1"})]
    catalog = Catalog(stores)

    async def work() -> None:
        assert await catalog.fingerprints() == {"m": "1", "n": "1"}
        stores[0].out_of_reach = True
        stores[1].digests["n"] = "2"
        assert await catalog.fingerprints() == {"m": "1", "n": "2"}
        with pytest.raises(UnavailableError, match="out of reach"):
            await catalog.look()

    asyncio.run(work())
    assert "cannot poll the model repository 'one': out of reach" in caplog.text


def test_models_of_a_renamed_repository_go_by_other_names(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()

    async def run() -> None:
        repository = RenamedRepository(LocalRepository(str(tmp_path)), {"mine": "yours"})
        await repository.look()
        assert repository.models() == ["other", "yours"]
        assert (await repository.fetch("yours")).directory == tmp_path / "mine"
        assert (await repository.fetch("other")).directory == tmp_path / "other"
        assert sorted(await repository.fingerprints()) == ["other", "yours"]

    asyncio.run(run())
