"""A model of spectrograms is deployed with the network that plays them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conch.deploy import extras
from conch.deploy.checkpoint import Checkpoint
from conch.deploy.vocoder import vocoder_setting, with_vocoder
from conch.errors import InvalidArgumentError, NotFoundError, UnavailableError

pytest.importorskip("transformers")


def written(directory: Path, *files: str, **config: Any) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    for name in files:
        (directory / name).write_text("weights")
    return directory


def voice(directory: Path, *files: str, **config: Any) -> Checkpoint:
    named = {"model_type": "speecht5", "architectures": ["SpeechT5ForTextToSpeech"]}
    return Checkpoint(written(directory, *(files or ("model.safetensors",)), **named, **config), "a voice")


def vocoder(directory: Path, *files: str, **config: Any) -> Path:
    named = {"model_type": "hifigan", "architectures": ["SpeechT5HifiGan"], **config}
    return written(directory, *(files or ("model.safetensors",)), **named)


def test_vocoder_in_the_checkpoint_is_its_own(tmp_path: Path) -> None:
    checkpoint = voice(tmp_path / "voice")
    vocoder(tmp_path / "voice" / "vocoder")
    found = with_vocoder(checkpoint)
    assert (found, found.beside()) == (checkpoint, {})
    assert found.vocoder_directory == tmp_path / "voice" / "vocoder"
    assert [(key, value) for key, value, _ in vocoder_setting(found)] == [("vocoder", "checkpoint/vocoder")]
    assert Path("vocoder/model.safetensors") in found.files()


def test_wanted_vocoder_goes_before_that_of_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = voice(tmp_path / "voice")
    vocoder(tmp_path / "voice" / "vocoder")
    other = vocoder(tmp_path / "other")
    found = with_vocoder(checkpoint, str(other))
    assert found.vocoder_directory == other
    assert found.beside() == {f"vocoder/{name}": other / name for name in ("config.json", "model.safetensors")}
    assert [(key, value) for key, value, _ in vocoder_setting(found)] == [("vocoder", "vocoder")]


def test_pickles_are_taken_with_leave_alone(tmp_path: Path) -> None:
    checkpoint, pickled = voice(tmp_path / "voice"), vocoder(tmp_path / "pickled", "pytorch_model.bin")
    with pytest.raises(InvalidArgumentError, match=r"'a voice' makes spectrograms, .* pass --allow-pickle"):
        with_vocoder(checkpoint, str(pickled))
    found = with_vocoder(checkpoint, str(pickled), allow_pickle=True)
    assert "vocoder/pytorch_model.bin" in found.beside()


def test_weights_of_a_vocoder_are_not_those_of_the_model(tmp_path: Path) -> None:
    checkpoint = voice(tmp_path / "voice", "pytorch_model.bin")
    vocoder(tmp_path / "voice" / "vocoder")
    assert not checkpoint.has_safetensors()


def test_other_models_have_no_vocoder(tmp_path: Path) -> None:
    other = Checkpoint(written(tmp_path / "vits", architectures=["VitsModel"]), "another voice")
    assert with_vocoder(other) is other and vocoder_setting(other) == ()
    with pytest.raises(InvalidArgumentError, match=r"--vocoder x: .* makes no spectrograms .*: leave it out"):
        with_vocoder(other, "x")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["BertModel"]}, "is BertModel; expected SpeechT5HifiGan"),
        ({"model_in_dim": 64}, "plays spectrograms of 64 bands, 'a voice' makes 80"),
    ],
)
def test_vocoder_has_to_fit(config: dict[str, Any], expected: str, tmp_path: Path) -> None:
    checkpoint, unfit = voice(tmp_path / "voice"), vocoder(tmp_path / "unfit", **config)
    with pytest.raises(InvalidArgumentError, match=expected):
        with_vocoder(checkpoint, str(unfit))
    vocoder(tmp_path / "voice" / "vocoder", **config)
    with pytest.raises(InvalidArgumentError, match=expected):
        with_vocoder(checkpoint)


def test_missing_vocoder_is_told_with_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable() -> Any:
        asked.append("hub")
        raise UnavailableError("cannot fetch it from the hub")

    monkeypatch.setattr(extras, "huggingface_hub", unreachable)
    checkpoint = voice(tmp_path / "voice")
    told = r"'a voice' makes spectrograms, which a vocoder plays: .*\. Say with --vocoder where one lies"
    with pytest.raises(UnavailableError, match=told):
        with_vocoder(checkpoint)
    with pytest.raises(NotFoundError, match=told):
        with_vocoder(checkpoint, "./nowhere")
    assert asked == ["hub"]
