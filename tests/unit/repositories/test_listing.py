"""Names of objects as models and files; names that would write elsewhere."""

from __future__ import annotations

import pytest

from conch.repositories.listing import RemoteModel, models_of


def found(*paths: str, root: str = "bucket/models") -> dict[str, RemoteModel]:
    return models_of(root, {f"{root}/{path}": {"size": 3, "ETag": f"tag of {path}"} for path in paths})


def test_models_are_the_directories_of_the_root() -> None:
    models = found("one/config.pbtxt", "one/1/model.py", "two/1/model.onnx", "README", ".hidden/1/model.py")
    assert {name: sorted(model.files) for name, model in models.items()} == {
        "one": ["1/model.py", "config.pbtxt"],
        "two": ["1/model.onnx"],
    }
    assert models["one"].files["1/model.py"].path == "bucket/models/one/1/model.py"


def test_objects_that_mark_directories_become_directories() -> None:
    infos = {
        "/models/ens/config.pbtxt": {"size": 1},
        "/models/ens/1/": {"size": 0},
        "/models/ens/2": {"type": "directory"},
        "/models/other": {"type": "directory"},
    }
    models = models_of("models", infos)
    assert models["ens"].directories == {"1", "2"}
    assert sorted(models["ens"].files) == ["config.pbtxt"]
    assert models["other"].files == {}


@pytest.mark.parametrize(
    "path", ["m/../other/config.pbtxt", "m/1/../../../etc/passwd", "m//config.pbtxt", "m/./config.pbtxt", "m/1/a\0b"]
)
def test_a_model_with_an_object_outside_of_it_is_refused(path: str) -> None:
    models = found("m/config.pbtxt", path, "fine/config.pbtxt")
    assert "would leave the model's directory" in models["m"].problem
    assert models["fine"].problem == ""


@pytest.mark.parametrize("path", ["../escape/config.pbtxt", "/absolute/config.pbtxt", "./config.pbtxt"])
def test_objects_above_the_root_are_no_models(path: str) -> None:
    assert found(path) == {}


def test_an_empty_object_that_cannot_be_a_file_is_a_directory() -> None:
    infos = {
        "models/ens/1": {"size": 0},
        "models/ens/empty": {"size": 0},
        "models/m/1": {"size": 0},
        "models/m/1/assets": {"size": 0},
        "models/m/1/assets/words": {"size": 5},
    }
    models = models_of("models", infos)
    assert (models["ens"].directories, sorted(models["ens"].files)) == ({"1"}, ["empty"])
    assert (models["m"].directories, sorted(models["m"].files)) == ({"1", "1/assets"}, ["1/assets/words"])
    assert {model.problem for model in models.values()} == {""}


def test_an_object_that_is_a_file_and_a_directory_is_refused() -> None:
    models = found("m/1", "m/1/model.py")
    assert models["m"].problem == "its object 'bucket/models/m/1' is a file and a directory"


def test_the_digest_changes_with_every_mark_and_size_and_name() -> None:
    infos = {"models/m/config.pbtxt": {"size": 3, "ETag": "a", "LastModified": "then"}}
    changes = [
        {"models/m/config.pbtxt": {"size": 4, "ETag": "a", "LastModified": "then"}},
        {"models/m/config.pbtxt": {"size": 3, "ETag": "b", "LastModified": "then"}},
        {"models/m/config.pbtxt": {"size": 3, "ETag": "a", "LastModified": "now"}},
        {"models/m/other": {"size": 3, "ETag": "a", "LastModified": "then"}},
        {**infos, "models/m/1/": {"size": 0}},
    ]
    digests = [models_of("models", each)["m"].digest for each in [infos, *changes]]
    assert len(set(digests)) == len(digests)
    assert models_of("models", dict(infos))["m"].digest == digests[0]
