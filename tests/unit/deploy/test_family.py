"""Models of one deploy are published all or none, and replace what was deployed under their name before."""

from __future__ import annotations

from pathlib import Path

import pytest

from conch.deploy import family as family_module
from conch.deploy.family import Family, ModelFiles, libraries_of, template
from conch.errors import AlreadyExistsError


def model(name: str, config: str = "") -> ModelFiles:
    return ModelFiles(name, config or f'name: "{name}"\n', contents={"model.py": b"made of " + name.encode()})


def ensemble(name: str, *parts: str) -> list[ModelFiles]:
    steps = ", ".join(f'{{ model_name: "{part}" model_version: -1 }}' for part in parts)
    config = f'name: "{name}"\nplatform: "ensemble"\nensemble_scheduling {{ step [ {steps} ] }}\n'
    return [*map(model, parts), model(name, config)]


def publish(repository: Path, name: str, models: list[ModelFiles], *, force: bool = False) -> Path:
    with Family(repository, name, force=force) as family:
        family.write(models, lambda path, done, total: None)
        return family.publish()


def names(repository: Path) -> list[str]:
    return sorted(path.name for path in repository.iterdir())


def test_models_are_seen_when_they_are_complete(tmp_path: Path) -> None:
    with Family(tmp_path, "a", force=False) as family:
        family.write(ensemble("a", "a_core", "a_preprocess"), lambda path, done, total: None)
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
        assert family.publish() == tmp_path / "a"
    assert names(tmp_path) == ["a", "a_core", "a_preprocess"]
    assert (tmp_path / "a_core" / "1" / "model.py").read_bytes() == b"made of a_core"


def test_what_is_not_published_is_gone(tmp_path: Path) -> None:
    with Family(tmp_path, "a", force=False) as family:
        family.write([model("a")], lambda path, done, total: None)
    assert names(tmp_path) == []


def test_parts_of_the_model_that_is_replaced_go_with_it(tmp_path: Path) -> None:
    publish(tmp_path, "other", [model("other")])
    publish(tmp_path, "a", ensemble("a", "a_core", "a_preprocess", "other"), force=True)
    publish(tmp_path, "a", [model("a")], force=True)
    assert names(tmp_path) == ["a", "other"]


def test_model_that_is_there_needs_force_before_any_work_is_done(tmp_path: Path) -> None:
    publish(tmp_path, "a", [model("a")])
    with pytest.raises(AlreadyExistsError, match="exists: pass --force"), Family(tmp_path, "a", force=False):
        pytest.fail("the staging repository was made")
    assert names(tmp_path) == ["a"]


def test_part_that_is_there_needs_force(tmp_path: Path) -> None:
    (tmp_path / "a_core").mkdir()
    with pytest.raises(AlreadyExistsError, match="a_core' exists: pass --force"):
        publish(tmp_path, "a", ensemble("a", "a_core"))
    assert names(tmp_path) == ["a_core"]
    publish(tmp_path, "a", ensemble("a", "a_core"), force=True)
    assert (tmp_path / "a_core" / "config.pbtxt").is_file()


def test_failed_move_leaves_the_repository_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, "a", ensemble("a", "a_core"))
    before = (tmp_path / "a" / "config.pbtxt").read_text()
    move = family_module._move

    def fail_at_last(source: Path, target: Path) -> None:
        if source.parent.name == ".a.new" and source.name == "a":
            raise OSError("the disk is full")
        move(source, target)

    monkeypatch.setattr(family_module, "_move", fail_at_last)
    with pytest.raises(OSError, match="the disk is full"):
        publish(tmp_path, "a", [model("a"), model("a_new")], force=True)
    assert names(tmp_path) == ["a", "a_core"]
    assert (tmp_path / "a" / "config.pbtxt").read_text() == before


def test_broken_configuration_of_the_model_that_is_replaced_does_not_matter(tmp_path: Path) -> None:
    publish(tmp_path, "a", [model("a", "nonsense {")])
    publish(tmp_path, "a", [model("a")], force=True)
    assert (tmp_path / "a" / "config.pbtxt").read_text() == 'name: "a"\n'


def test_libraries_of_a_template_are_found_through_its_imports() -> None:
    own = ("light_inputs.py", "light_rows.py", "light_serving.py", "light_text.py")
    below = ("light_pieces.py", "light_unigram.py", "light_words.py")
    assert libraries_of("tokenize_text.py") == tuple(sorted((*own, *below)))
    assert b"class TritonPythonModel" in template("tokenize_text.py")
