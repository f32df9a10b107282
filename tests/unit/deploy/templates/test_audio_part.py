"""The light audio part gives the features of transformers' feature extractors."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.deploy.split.audio_processor import light_audio_processor
from conch.deploy.split.parts import CannotSplit
from tests.checkpoints import samples
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import file_rows, load_part

transformers = pytest.importorskip("transformers")
soundfile = pytest.importorskip("soundfile")

# Extractor, what it is made with, its features and their dims.
EXTRACTORS: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("Wav2Vec2FeatureExtractor", {"do_normalize": True}, "input_values", "-1"),
    ("Wav2Vec2FeatureExtractor", {"do_normalize": False, "sampling_rate": 8000}, "input_values", "-1"),
    ("ASTFeatureExtractor", {"num_mel_bins": 64}, "input_values", "1024 64"),
    ("ASTFeatureExtractor", {"max_length": 40, "num_mel_bins": 32, "do_normalize": False}, "input_values", "40 32"),
    ("WhisperFeatureExtractor", {"chunk_length": 2}, "input_features", "80 200"),
    ("ClapFeatureExtractor", {"truncation": "rand_trunc", "max_length_s": 4}, "input_features", "1 -1 64"),
    ("ClapFeatureExtractor", {"truncation": "rand_trunc", "max_length_s": 4, "padding": "repeat"},
     "input_features", "1 -1 64"),
)  # fmt: skip


def audio_part(directory: Path, extractor: Any, name: str, dims: str) -> LocalModel:
    _, contents = light_audio_processor(extractor)
    outputs = {name: f"TYPE_FP32 {dims}", "attention_mask": "TYPE_INT32 -1", "is_longer": "TYPE_BOOL 1"}
    outputs["activation"] = "TYPE_INT32 1"
    settings = {"task": "audio-classification", "function_to_apply": "softmax"}
    inputs = {"audio": "TYPE_STRING 1"}
    return load_part(directory, "process_audio.py", inputs, outputs, settings, contents)


def file_of(sound: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "options", "name", "dims"), EXTRACTORS, ids=[f"{each[0]}{index}" for index, each in enumerate(EXTRACTORS)]
)
def test_features_are_those_of_the_extractor(
    tmp_path: Path, kind: str, options: dict[str, Any], name: str, dims: str
) -> None:
    extractor = getattr(transformers, kind)(**options)
    part = audio_part(tmp_path, extractor, name, dims)
    for seconds in (0.2, 0.83, 1.9):
        sound = samples.waveform(seconds, extractor.sampling_rate)
        got = part.ask({"audio": file_rows(file_of(sound, extractor.sampling_rate))})
        expected = extractor(sound, sampling_rate=extractor.sampling_rate, return_tensors="np")
        np.testing.assert_allclose(got[name], expected[name], atol=1e-3)
        if "is_longer" in expected:
            np.testing.assert_array_equal(got["is_longer"], expected["is_longer"])
        assert got["activation"].tolist() == [[1]]


def test_long_sound_is_cut_where_the_extractor_cuts(tmp_path: Path) -> None:
    extractor = transformers.WhisperFeatureExtractor(chunk_length=1)
    part, sound = audio_part(tmp_path, extractor, "input_features", "80 100"), samples.waveform(1.7)
    got = part.ask({"audio": file_rows(file_of(sound, samples.RATE))})
    expected = extractor(sound, sampling_rate=samples.RATE, return_tensors="np")
    np.testing.assert_allclose(got["input_features"], expected["input_features"], atol=1e-3)


def test_long_sound_for_clap_is_a_part_of_it(tmp_path: Path) -> None:
    extractor = transformers.ClapFeatureExtractor(truncation="rand_trunc", max_length_s=1)
    part = audio_part(tmp_path, extractor, "input_features", "1 -1 64")
    got = part.ask({"audio": file_rows(file_of(samples.waveform(1.5, 48000), 48000))})
    assert got["input_features"].shape == (1, 1, 101, 64)
    assert got["is_longer"].tolist() == [[True]]


def test_sound_that_is_none_fails_alone(tmp_path: Path) -> None:
    part = audio_part(tmp_path, transformers.Wav2Vec2FeatureExtractor(), "input_values", "-1")
    good = {"audio": file_rows(file_of(samples.waveform(0.3), samples.RATE))}
    outcomes = part.execute([part.request(good), part.request({"audio": file_rows(b"RIFF")})])
    assert isinstance(outcomes[0], dict)
    assert "cannot decode the audio: expected WAV" in str(outcomes[1])


def test_sound_of_the_model_s_rate_needs_no_resampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)  # not installed
    part = audio_part(tmp_path, transformers.Wav2Vec2FeatureExtractor(), "input_values", "-1")
    rates = (samples.RATE, 2 * samples.RATE)
    own, other = ({"audio": file_rows(file_of(samples.waveform(0.3, rate), rate))} for rate in rates)
    assert len(part.ask(own)["input_values"][0]) == int(0.3 * samples.RATE)
    assert "soxr" in str(part.execute([part.request(other)])[0])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("ClapFeatureExtractor", "fuses parts"), ("SpeechT5FeatureExtractor", "only transformers|light code")],
)
def test_extractor_with_steps_of_its_own_is_refused_with_the_reason(kind: str, reason: str) -> None:
    with pytest.raises(CannotSplit, match=reason):
        light_audio_processor(getattr(transformers, kind)())


@pytest.mark.parametrize("name", ["audio-classification", "audio-classification.ast", "zero-shot-audio-classification"])
def test_extractors_of_checkpoints_need_no_transformers(checkpoint_of: Callable[[str], Path], name: str) -> None:
    extractor = transformers.AutoFeatureExtractor.from_pretrained(checkpoint_of(name))
    assert "audio_settings.json" in light_audio_processor(extractor)[1]
