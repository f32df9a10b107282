"""The light part before a model that hears and writes gives what transformers' pipeline gives."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, DoesNotApply
from conch.deploy.split.subject import Subject
from tests.checkpoints import samples
from tests.unit.deploy.conftest import Deployed, plan_of
from tests.unit.deploy.templates.part import file_rows, load_part, tensors_of, text_rows
from tests.unit.deploy.templates.test_pipeline_parts import assert_equal

torch = pytest.importorskip("torch")
soundfile = pytest.importorskip("soundfile")
transformers = pytest.importorskip("transformers")
sound_prompts = pytest.importorskip("conch.deploy.split.sound_prompts")

NAME = "any-to-any"
INPUTS = {"text": "TYPE_STRING 1", "messages": "TYPE_STRING 1", "image": "TYPE_STRING -1", "audio": "TYPE_STRING -1"}
MARK = "<|audio_bos|><|AUDIO|><|audio_eos|>"


@pytest.fixture(scope="module")
def subject(checkpoint_of: Callable[[str], Path]) -> Subject:
    checkpoint = checkpoint_of(NAME)
    pipe = transformers.pipeline("any-to-any", model=str(checkpoint))
    return Subject(plan_of(NAME, checkpoint), pipe, Checkpoint(checkpoint, NAME))


@pytest.fixture(scope="module")
def part(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Any:
    preprocess, generate = sound_prompts.sound_prompts(subject).parts
    assert (preprocess.template, generate.template) == ("process_sound_prompt.py", "generate.py")
    types = {"INT64": "TYPE_INT64", "INT32": "TYPE_INT32", "FP32": "TYPE_FP32"}
    outputs = {spec.name: " ".join([types[spec.datatype.value], *map(str, spec.dims)]) for spec in preprocess.outputs}
    settings = {key: value for key, value, _ in preprocess.settings}
    directory = tmp_path_factory.mktemp("parts")
    return load_part(directory, preprocess.template, INPUTS, outputs, settings, preprocess.contents)


def wave(seconds: float) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.waveform(seconds), samples.RATE, format="FLAC")
    return buffer.getvalue()


def heard(file: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(file), dtype="float32")[0]


@pytest.mark.parametrize("lengths", [(), (0.31,), (2.7, 0.8)], ids=str)
@pytest.mark.parametrize("chat", [False, True])
def test_tensors_are_those_of_the_pipeline(part: Any, subject: Subject, lengths: tuple[float, ...], chat: bool) -> None:
    files = [wave(seconds) for seconds in lengths]
    asked: Any = {"audio": np.array([[*files, None]], object)[:, :-1]} if files else {}
    question = {"type": "text", "text": "What is this?"}
    if chat:
        sent = [{"role": "user", "content": [*({"type": "audio"} for _ in files), question]}]
        asked |= {"messages": text_rows([json.dumps(sent)])}
        sounds = [{"type": "audio", "audio": heard(file)} for file in files]
        want = subject.pipe.preprocess(
            light_module("hf_prompts").chat_class(subject.pipe)([{"role": "user", "content": [*sounds, question]}])
        )
    else:
        text = MARK * len(files) + "What is this?"
        asked |= {"text": text_rows([text])}
        want = subject.pipe.preprocess({"text": text, "audio": [heard(file) for file in files] or None})
    got = part.ask(asked)
    assert got["sounds"].tolist() == [[len(files)]]
    for name, value in want.items():
        if isinstance(value, torch.Tensor):
            array = got[name][0] if name.endswith(("features", "feature_attention_mask")) else got[name]
            np.testing.assert_allclose(array, value.numpy(), atol=1e-3, err_msg=name)


def test_conversation_is_answered_as_by_the_whole_pipeline(
    part: Any, subject: Subject, deployed: Deployed, tmp_path: Path
) -> None:
    whole, (_, generate) = deployed(NAME), sound_prompts.sound_prompts(subject).parts
    settings = {key: value for key, value, _ in generate.settings}
    taken = {**tensors_of(part.config.output), **{name: spec for name, spec in INPUTS.items() if name != "image"}}
    after = load_part(
        tmp_path,
        generate.template,
        taken,
        tensors_of(whole.config.output),
        settings,
        checkpoint=subject.checkpoint.path,
        weights=True,
    )
    heard_and_asked = [{"type": "audio"}, {"type": "text", "text": "Bells?"}, {"type": "audio"}]
    asked = {
        "messages": text_rows([json.dumps([{"role": "user", "content": heard_and_asked}])]),
        "audio": np.array([[wave(0.4), wave(0.7), None]], object)[:, :-1],
    }
    parameters = {"max_new_tokens": 12, "do_sample": False}
    assert_equal(after.ask({**part.ask(asked, parameters), **asked}, parameters), whole.ask(asked, parameters))


def test_prompts_that_cannot_be_answered_are_refused(part: Any) -> None:
    sound, twice = file_rows(wave(0.4)), text_rows([MARK * 2])
    good = part.request({"text": text_rows([MARK]), "audio": sound})
    unequal = part.request({"text": twice, "audio": sound})
    seen = part.request({"text": twice, "image": sound})
    broken = part.request({"text": text_rows([MARK]), "audio": file_rows(b"no sound")})
    answered, *refused = part.execute([good, unequal, seen, broken])
    assert isinstance(answered, dict)
    told = (
        "the prompt mentions 2 sounds (<|AUDIO|>), the input `audio` has 1",
        "does not see",
        "cannot decode the audio",
    )
    for text, error in zip(told, refused, strict=True):
        assert text in str(error)


def test_other_models_and_processors_are_refused(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(config=SimpleNamespace(model_type="other"), can_generate=lambda: True)
    with pytest.raises(DoesNotApply, match="SimpleNamespace prepares sounds in a way of its own"):
        sound_prompts.sound_prompts(Subject(subject.plan, SimpleNamespace(model=other), subject.checkpoint))
    monkeypatch.setattr(subject.pipe.processor, "replace_audio_token", lambda *_, **__: "<|AUDIO|>")
    with pytest.raises(CannotSplit, match=r"the pipeline makes other input_ids \[1, \d+\] than light code"):
        sound_prompts.light_sound_prompts(subject.pipe, subject.model.config)
