"""Speech: features without transformers, an encoder that ran elsewhere, and the generation answer as the pipeline."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.render import write_model
from conch.deploy.split import speech as split_speech
from conch.deploy.split.encoder import STATES
from conch.deploy.split.parts import CannotSplit
from tests.checkpoints import samples
from tests.unit.deploy.conftest import plan_of
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import file_rows, load_part, settings_of, tensors_of
from tests.unit.deploy.templates.test_pipeline_parts import assert_equal

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
soundfile = pytest.importorskip("soundfile")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Inputs = dict[str, np.ndarray]
NAME = "automatic-speech-recognition.whisper"
BOUNDS = {"lengths": "TYPE_INT64 -1", "strides": "TYPE_INT64 -1 3"}
FEATURES = {
    "input_features": "TYPE_FP32 -1 -1 -1",
    "rest": "TYPE_FP32 -1 -1 -1",
    "attention_mask": "TYPE_INT32 -1 -1",
    **BOUNDS,
}
GREEDY = {"max_new_tokens": 12}


class Parts(NamedTuple):
    before: LocalModel
    core: LocalModel
    whole: LocalModel
    window_s: float

    def features(self, inputs: Inputs, **parameters: Any) -> Inputs:
        """What the preprocess and the encoder make of the sounds.

        Features differ by rounding from those of the library, which moves the time stamps that random weights choose
        (not the texts): where these count, the library's own take their place.
        """
        made = self.before.ask(inputs, parameters)
        if parameters.get("return_timestamps"):
            samples, _ = soundfile.read(io.BytesIO(inputs["audio"][0, 0]), dtype="float32")
            (library,) = self.whole.model.pipe.preprocess(samples)
            window = made["input_features"].shape[-1]
            both = np.split(library["input_features"].numpy()[:, None], [window], axis=-1)
            for name, features in zip(("input_features", "rest"), both, strict=True):
                np.testing.assert_allclose(made[name], features, atol=1e-3)
                made[name] = features
        rows, parts = made["input_features"].shape[:2]
        with torch.inference_mode():
            flat = torch.from_numpy(made["input_features"]).flatten(0, 1)
            states = self.whole.model.pipe.model.get_encoder()(flat).last_hidden_state
        return {**made, STATES: states.reshape(rows, parts, *states.shape[1:]).numpy()}


@pytest.fixture(scope="module")
def parts(checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Parts:
    directory = tmp_path_factory.mktemp("speech")
    checkpoint = directory / "checkpoint"
    shutil.copytree(checkpoint_of(NAME), checkpoint)
    # A mark of checkpoints saved just now, with which the library forgets what Whisper alone knows of generation.
    path = checkpoint / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_from_model_config": False}))
    files = Checkpoint(checkpoint, NAME).files()
    whole = LocalModel(
        write_model(plan_of(NAME, checkpoint), checkpoint, files, directory, force=False, progress=lambda *done: None)
    )
    pipe = whole.model.pipe
    (own, contents), _ = split_speech.light_speech(pipe, pipe.model.config)
    settings = settings_of(whole)
    inputs, outputs = tensors_of(whole.config.input), tensors_of(whole.config.output)
    light = {**settings, **{key: value for key, value, _ in own}}
    before = load_part(directory, "process_speech.py", inputs, FEATURES, light, contents)
    taken = {**FEATURES, STATES: "TYPE_FP32 -1 -1 -1"}
    core = load_part(directory, "generate.py", taken, outputs, settings, checkpoint=checkpoint, weights=True)
    extractor = pipe.feature_extractor
    return Parts(before, core, whole, extractor.n_samples / extractor.sampling_rate)


def sound(*seconds: float) -> Inputs:
    """A sound a row."""
    files = []
    for number, each in enumerate(seconds):
        buffer = io.BytesIO()
        soundfile.write(buffer, samples.waveform(each, pitch=220.0 + 60 * number), samples.RATE, format="FLAC")
        files.append(buffer.getvalue())
    return {"audio": file_rows(*files)}


@pytest.fixture
def own_encoder(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many inputs the model's own encoder was given, call by call."""
    calls: list[int] = []
    states = parts.core.model.encoder
    own = states.own

    def counted(*args: Any, **kwargs: Any) -> Any:
        given = states.signature.bind(*args, **kwargs).arguments
        calls.append(len(given[states.main]))
        return own(*args, **kwargs)

    monkeypatch.setattr(states, "own", counted)
    return calls


@pytest.mark.parametrize(
    "parameters",
    [
        GREEDY,
        {**GREEDY, "return_timestamps": True},
        {**GREEDY, "return_language": True},
        {**GREEDY, "num_beams": 2},
        {**GREEDY, "language": "en", "task": "translate"},
        {**GREEDY, "generate_kwargs": '{"do_sample": false}'},
    ],
    ids=["greedy", "timestamps", "language", "beams", "translate", "kwargs"],
)
def test_short_sound_is_understood_without_the_models_own_encoder(
    parameters: dict[str, Any], parts: Parts, own_encoder: list[int]
) -> None:
    inputs = sound(0.7)
    assert_equal(
        parts.core.ask(parts.features(inputs, **parameters), parameters), parts.whole.ask(inputs, dict(parameters))
    )
    assert own_encoder == []


def test_sounds_of_one_batch_are_understood_as_alone(parts: Parts, own_encoder: list[int]) -> None:
    asked = [sound(0.7), sound(0.4), sound(0.9)]
    outcomes = parts.core.execute([parts.core.request(parts.features(each), GREEDY) for each in asked])
    for each, outcome in zip(asked, outcomes, strict=True):
        assert isinstance(outcome, dict)
        assert_equal(outcome, parts.whole.ask(each, dict(GREEDY)))
    assert own_encoder == []


def test_what_a_sound_is_longer_than_the_window_goes_to_the_models_own_encoder(
    parts: Parts, own_encoder: list[int]
) -> None:
    parameters = {"return_timestamps": True, "max_new_tokens": 10}
    inputs = sound(1.6 * parts.window_s)
    made = parts.features(inputs, **parameters)
    assert made["rest"].shape[-1]
    assert made["lengths"].tolist() == [[made["input_features"].shape[-1] + made["rest"].shape[-1]]]
    assert_equal(parts.core.ask(made, parameters), parts.whole.ask(inputs, dict(parameters)))
    assert own_encoder
    assert set(own_encoder) == {1}


def test_sound_is_cut_into_parts_as_the_pipeline_does(parts: Parts, own_encoder: list[int]) -> None:
    parameters = {**GREEDY, "chunk_length_s": 0.5, "stride_length_s": "[0.1, 0.05]"}
    inputs = sound(1.3)
    made = parts.features(inputs, **parameters)
    assert made["lengths"].shape == (1, 4)
    assert made["strides"][0, :, 0].tolist() == [8000, 8000, 8000, 4000]
    assert_equal(parts.core.ask(made, parameters), parts.whole.ask(inputs, dict(parameters)))
    assert own_encoder == []


def test_rows_of_one_request_may_have_unequal_numbers_of_parts(parts: Parts) -> None:
    parameters = {**GREEDY, "chunk_length_s": 0.5}
    inputs = sound(0.4, 1.3)
    made = parts.features(inputs, **parameters)
    assert made["lengths"][0].tolist()[1:] == [0] * (made["lengths"].shape[1] - 1)
    together = parts.core.ask(made, parameters)
    for row, seconds in enumerate((0.4, 1.3)):
        one = {"audio": inputs["audio"][row : row + 1]}
        assert seconds and together["text"][row] == parts.whole.ask(one, dict(parameters))["text"][0]


@pytest.mark.parametrize("strides", ["[0.3, 0.3]", "-1", "[1, 2, 3]"])
def test_overlaps_that_leave_nothing_are_refused(strides: str, parts: Parts) -> None:
    request = parts.before.request(sound(1.0), {"chunk_length_s": 0.5, "stride_length_s": strides})
    (outcome,) = parts.before.execute([request])
    assert "stride_length_s" in str(outcome)


def test_word_timestamps_come_from_the_models_own_encoder_or_the_known_states(parts: Parts) -> None:
    parameters = {**GREEDY, "return_timestamps": "word"}
    inputs = sound(0.7)
    (expected,) = parts.whole.execute([parts.whole.request(inputs, dict(parameters))])
    (got,) = parts.core.execute([parts.core.request(parts.features(inputs, **parameters), parameters)])
    if isinstance(expected, dict):
        assert isinstance(got, dict)
        assert_equal(got, expected)
    else:
        assert str(got) == str(expected)


def test_extractor_that_cuts_otherwise_keeps_the_pipelines_own(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = parts.whole.model.pipe
    monkeypatch.setattr(pipe, "_preprocess_params", {"stride_length_s": 0.2})
    with pytest.raises(CannotSplit, match="the pipeline"):
        split_speech.light_speech(pipe, pipe.model.config)
