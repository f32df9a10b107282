"""Checkpoints are found or fetched, and those that would run foreign code are refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conch.deploy import extras
from conch.deploy.source import fetch
from conch.errors import InvalidArgumentError, NotFoundError, UnavailableError, UnsupportedError

pytest.importorskip("transformers")


def checkpoint(directory: Path, *files: str, **config: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    for name in files:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("{}")
    return directory


def test_directory_with_safetensors_is_a_checkpoint(tmp_path: Path) -> None:
    found = fetch(str(checkpoint(tmp_path, "model.safetensors")))
    assert found.path == tmp_path
    assert found.model_type == "bert"


def test_missing_directory_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no checkpoint directory"):
        fetch(str(tmp_path / "none"))


def test_directory_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"has no config\.json: expected a HuggingFace checkpoint"):
        fetch(str(tmp_path))


def test_adapter_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InvalidArgumentError, match="merge the adapter into its base model first"):
        fetch(str(tmp_path))


def test_checkpoint_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"has no weights: expected \*\.safetensors"):
        fetch(str(checkpoint(tmp_path)))


def test_weights_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path, "model-1-of-2.safetensors")
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidArgumentError, match=r"lacks weights that its index names: model-2-of-2\.safetensors; "):
        fetch(str(directory))
    (directory / "model-2-of-2.safetensors").write_text("{}")
    assert len(fetch(str(directory)).files()) == 4


def test_configuration_that_is_no_json_is_refused_by_file(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path, "model.safetensors")
    (directory / "config.json").write_text('{"model_type":')
    with pytest.raises(InvalidArgumentError, match=r"cannot read '.*config\.json' as JSON"):
        fetch(str(directory))


def test_pickled_weights_are_refused_unless_allowed(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path, "pytorch_model.bin")
    with pytest.raises(InvalidArgumentError, match=r"only as pickle files.* --allow-pickle"):
        fetch(str(directory))
    assert fetch(str(directory), allow_pickle=True).files(pickle=True) == [
        Path("config.json"),
        Path("pytorch_model.bin"),
    ]


def test_pickled_weights_beside_safetensors_stay_behind(tmp_path: Path) -> None:
    directory = checkpoint(
        tmp_path, "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "tf_model.h5", "run.py"
    )
    assert fetch(str(directory)).files() == [Path("config.json"), Path("model.safetensors")]


def test_code_of_a_checkpoint_is_refused_unless_trusted(tmp_path: Path) -> None:
    directory = checkpoint(
        tmp_path, "model.safetensors", "modeling.py", model_type="odd", auto_map={"AutoModel": "m.M"}
    )
    with pytest.raises(InvalidArgumentError, match=r"needs Python code of its own.* --trust-remote-code"):
        fetch(str(directory))
    assert Path("modeling.py") in fetch(str(directory), trust_remote_code=True).files(code=True)


def test_code_of_a_model_that_transformers_knows_itself_is_not_needed(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path, "model.safetensors", auto_map={"AutoModel": "m.M"})
    assert fetch(str(directory)).model_type == "bert"


def test_name_that_is_neither_directory_nor_hub_id_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="neither a directory nor a hub id"):
        fetch("https://example.org/model")


class FakeHub:
    """The part of huggingface_hub that is used, with one repository."""

    def __init__(self, directory: Path, files: list[str], failure: Exception | None = None) -> None:
        self.directory, self.files, self.failure = directory, files, failure
        self.constants = SimpleNamespace(HF_HUB_OFFLINE=False)
        self.downloads: list[tuple[str, str, list[str]]] = []

    def HfApi(self) -> FakeHub:
        return self

    def model_info(self, repo: str, revision: str | None) -> Any:
        if self.failure:
            raise self.failure
        siblings = [SimpleNamespace(rfilename=name) for name in self.files]
        return SimpleNamespace(pipeline_tag="fill-mask", sha=revision or "abc", siblings=siblings)

    def snapshot_download(self, repo: str, revision: str, allow_patterns: list[str]) -> str:
        self.downloads.append((repo, revision, allow_patterns))
        return str(self.directory)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path, ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx"])
    checkpoint(tmp_path, "model.safetensors")
    monkeypatch.setattr(extras, "huggingface_hub", lambda: fake)
    return fake


def test_only_needed_files_are_fetched_from_the_hub(hub: FakeHub) -> None:
    found = fetch("owner/name@main", allow_pickle=True)
    assert hub.downloads == [("owner/name", "main", ["config.json", "model.safetensors"])]
    assert (found.source, found.pipeline_tag) == ("owner/name@main", "fill-mask")


def test_hub_repository_with_pickles_alone_is_refused_before_anything_is_fetched(hub: FakeHub) -> None:
    hub.files = ["config.json", "pytorch_model.bin"]
    with pytest.raises(InvalidArgumentError, match="--allow-pickle"):
        fetch("owner/name")
    assert hub.downloads == []


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("RepositoryNotFoundError", NotFoundError, "there is no model 'owner/name' on the hub"),
        ("RevisionNotFoundError", NotFoundError, "the hub has no revision 'v9' of 'owner/name'"),
        ("GatedRepoError", UnsupportedError, "is gated: accept its terms"),
        ("ConnectError", UnavailableError, "Check the network, or pass the directory"),
        ("LocalEntryNotFoundError", UnavailableError, "cannot fetch 'owner/name' from the hub"),
    ],
)
def test_errors_of_the_hub_say_what_to_do(hub: FakeHub, kind: str, error: type[Exception], text: str) -> None:
    hub.failure = type(kind, (Exception,), {})("no")
    with pytest.raises(error, match=text):
        fetch("owner/name@v9" if "Revision" in kind else "owner/name")


def test_missing_library_is_named_with_what_to_install() -> None:
    with pytest.raises(UnavailableError, match=r"'soundwave'.*pip install \"conch\[hf\]\" soundwave"):
        extras.require("soundwave", "soundwave")
