"""Copies of models: used by several, removed when nobody needs them."""

from __future__ import annotations

from pathlib import Path

from conch.repositories.generations import Claim, Draft, Generations


def make(generations: Generations, name: str, content: str) -> Claim:
    draft = Draft(generations)
    (draft.directory / "file").write_text(content)
    return draft.publish(name, {"file": content})


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def test_a_generation_is_there_once_it_is_published_and_stays_for_the_next_server(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    assert generations.claim("one") is None
    claim = make(generations, "one", "1")
    assert (claim.directory / "file").read_text() == "1"
    claim.cleanup()
    again = Generations(tmp_path).claim("one")
    assert again is not None
    assert again.directory == claim.directory
    again.cleanup()


def test_an_older_generation_goes_when_its_last_user_does(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    first = make(generations, "one", "1")
    second = generations.claim("one")
    assert second is not None
    third = make(generations, "two", "2")
    first.cleanup()
    first.cleanup()
    assert names(tmp_path) == ["one", "two"]
    second.cleanup()
    assert names(tmp_path) == ["two"]
    third.cleanup()
    assert names(tmp_path) == ["two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two", "two.lock"]


def test_what_another_server_uses_is_not_removed(tmp_path: Path) -> None:
    mine, theirs = Generations(tmp_path), Generations(tmp_path)
    old = make(theirs, "one", "1")
    new = make(mine, "two", "2")
    assert names(tmp_path) == ["one", "two"]
    theirs.sweep()
    new.cleanup()
    old.cleanup()
    assert names(tmp_path) == ["one"]


def test_the_copy_of_the_faster_server_counts(tmp_path: Path) -> None:
    mine, theirs = Generations(tmp_path), Generations(tmp_path)
    draft = Draft(mine)
    (draft.directory / "file").write_text("late")
    claims = [make(theirs, "one", "early"), draft.publish("one", {})]
    assert [(claim.directory / "file").read_text() for claim in claims] == ["early", "early"]
    assert names(tmp_path) == ["one"]
    for claim in claims:
        claim.cleanup()


def test_a_draft_that_is_discarded_or_was_left_by_a_dead_server_goes(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    draft = Draft(generations)
    generations.sweep()
    assert len(names(tmp_path)) == 1
    draft.discard()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".new-dead" / "model").mkdir(parents=True)
    make(generations, "one", "1").cleanup()
    assert names(tmp_path) == ["one"]


def test_files_of_a_generation_are_found_by_path_and_mark(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    claim = make(generations, "one", "1")
    assert generations.file("file", "1") == claim.directory / "file"
    assert generations.file("file", "2") is None
    assert generations.file("other", "1") is None
    (tmp_path / "one" / "manifest.json").write_text("{")
    assert generations.file("file", "1") is None
    claim.cleanup()
