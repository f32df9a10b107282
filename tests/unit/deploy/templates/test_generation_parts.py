"""Generic parts around models that generate, and of pipelines that cut their input, answer as the whole pipeline."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.deploy.tasks.generation import ANSWER_OUTPUTS
from tests.checkpoints import samples
from tests.unit.deploy.conftest import Deployed
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import encoded, file_rows, load_part, settings_of, tensors_of, text_rows
from tests.unit.deploy.templates.test_pipeline_parts import CONTEXT, assert_equal, run_network, spec_of

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

Inputs = dict[str, np.ndarray]
TOKENS = {"input_ids": "TYPE_INT64 -1", "attention_mask": "TYPE_INT64 -1"}
GENERATED = {"generated": "TYPE_STRING 1"}
GREEDY = {"max_new_tokens": 12, "do_sample": False}


def sound(seconds: float = 0.7) -> Inputs:
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.waveform(seconds), samples.RATE, format="FLAC")
    return {"audio": file_rows(buffer.getvalue())}


def conversation(*, image: bool = False, audio: bool = False) -> Inputs:
    parts = [{"type": "image"}] * image + [{"type": "audio"}] * audio + [{"type": "text", "text": "What is this?"}]
    content = parts if image or audio else "What is this?"
    inputs = {"messages": text_rows([json.dumps([{"role": "user", "content": content}])])}
    if image:
        inputs["image"] = file_rows(encoded(samples.image(64, 48)))
    return {**inputs, **sound()} if audio else inputs


def part(template: str, whole: LocalModel, checkpoint: Path | None, directory: Path, **others: Any) -> LocalModel:
    settings = {**settings_of(whole), **others.pop("settings", {})}
    return load_part(directory, template, settings=settings, checkpoint=checkpoint, **others)


GENERATIVE: tuple[tuple[str, dict[str, str], list[Inputs], dict[str, Any]], ...] = (
    ("text-generation", TOKENS, [{"text": text_rows(["The wind"])}, conversation()], GREEDY),
    ("text-generation.gpt2", TOKENS, [{"text": text_rows(["The wind came"])}], {**GREEDY, "return_full_text": False}),
    (
        "image-text-to-text",
        {**TOKENS, "pixel_values": "TYPE_FP32 3 -1 -1"},
        [conversation(image=True)],
        GREEDY,
    ),
    (
        "image-text-to-text.git",
        {**TOKENS, "pixel_values": "TYPE_FP32 3 -1 -1"},
        [{"text": text_rows(["a"]), "image": file_rows(encoded(samples.image(64, 48)))}],
        {"max_new_tokens": 12},
    ),
    ("any-to-any", TOKENS, [{"text": text_rows(["The wind"])}, conversation(audio=True)], GREEDY),
    (
        "automatic-speech-recognition.whisper",
        {"input_features": "TYPE_FP32 -1 -1"},
        [sound(), sound(0.4)],
        {"max_new_tokens": 12},
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tensors", "asked", "parameters"), GENERATIVE, ids=[case[0] for case in GENERATIVE])
def test_parts_around_generate_equal_the_whole_pipeline(
    name: str,
    tensors: dict[str, str],
    asked: list[Inputs],
    parameters: dict[str, Any],
    deployed: Deployed,
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    whole, checkpoint = deployed(name), checkpoint_of(name)
    inputs, outputs = tensors_of(whole.config.input), tensors_of(whole.config.output)
    told = {spec.name: outputs.pop(spec.name) for spec in ANSWER_OUTPUTS if spec.name in outputs}
    taken = {**tensors, **CONTEXT}
    before = part("pipeline_preprocess.py", whole, checkpoint, tmp_path, inputs=inputs, outputs=taken)
    core = part("generate.py", whole, checkpoint, tmp_path, inputs=taken, outputs={**GENERATED, **told}, weights=True)
    after = part("pipeline_postprocess.py", whole, checkpoint, tmp_path, inputs=GENERATED, outputs=outputs)
    for each in asked:
        made = core.ask(before.ask(each, parameters), parameters)
        texts = after.ask({"generated": made.pop("generated")}, parameters)
        assert_equal({**texts, **made}, whole.ask(each, parameters))


@pytest.mark.slow
def test_page_is_answered_from_the_states_that_an_engine_made(
    deployed: Deployed,
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "document-question-answering.donut"
    whole, tensors = deployed(name), {"inputs": "TYPE_FP32 3 -1 -1", "decoder_input_ids": "TYPE_INT64 -1"}
    taken = tensors_of(whole.config.input)
    checkpoint = checkpoint_of(name)
    before = part("pipeline_preprocess.py", whole, checkpoint, tmp_path, inputs=taken, outputs={**tensors, **CONTEXT})
    read = {**tensors, **CONTEXT, "encoder_hidden_states": "TYPE_FP32 -1 -1"}
    core = part("generate.py", whole, checkpoint, tmp_path, inputs=read, outputs=GENERATED, weights=True)
    page = {"question": text_rows(["What is the total?"]), "image": file_rows(encoded(samples.image(64, 48)))}
    made, known = before.ask(page), core.model.encoder
    with torch.inference_mode():
        states = known.own(torch.from_numpy(made["inputs"])).last_hidden_state.numpy()

    def unused(*_: Any, **__: Any) -> None:
        raise AssertionError("the encoder ran again")

    monkeypatch.setattr(known, "own", unused)
    told = core.ask({**made, "encoder_hidden_states": states})
    plain = part(
        "generate.py", whole, checkpoint, tmp_path, inputs={**tensors, **CONTEXT}, outputs=GENERATED, weights=True
    )
    assert told["generated"].tolist() == plain.ask(made)["generated"].tolist()


def cut_inputs() -> Inputs:
    return {"image": file_rows(encoded(samples.image(64, 48))), "text": text_rows(["a cat", "two birds"])}


def document() -> Inputs:
    words = ["The", "invoice", "number", "is", "4711", "and", "the", "total", "is", "12", "."]
    boxes = [[word, [40, 30 + 45 * row, 400, 70 + 45 * row]] for row, word in enumerate(words)]
    return {
        "question": text_rows(["What is the number?"]),
        "image": file_rows(encoded(samples.image(64, 48))),
        "word_boxes": text_rows([json.dumps(boxes)]),
    }


DETECTION = {**TOKENS, "pixel_values": "TYPE_FP32 3 -1 -1"}
LAYOUT = {**TOKENS, "token_type_ids": "TYPE_INT64 -1", "bbox": "TYPE_INT64 -1 4"}
CUT: tuple[tuple[str, dict[str, str], Inputs, dict[str, Any], bool], ...] = (
    ("automatic-speech-recognition", {"input_values": "TYPE_FP32 -1"}, sound(), {"return_timestamps": "char"}, False),
    ("zero-shot-object-detection", DETECTION, cut_inputs(), {"threshold": 0.01}, True),
    ("document-question-answering", LAYOUT, document(), {}, False),
    ("document-question-answering", LAYOUT, document(), {"max_seq_len": 24, "doc_stride": 4}, True),
    ("token-classification", TOKENS, {"text": text_rows(["two red apples " * 30])},
     {"aggregation_strategy": "simple", "stride": 5}, True),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "tensors", "inputs", "parameters", "parts"), CUT, ids=[f"{case[0]}-{case[4]}" for case in CUT]
)
def test_pipelines_that_cut_their_input_equal_the_whole(
    name: str,
    tensors: dict[str, str],
    inputs: Inputs,
    parameters: dict[str, Any],
    parts: bool,
    deployed: Deployed,
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    whole, checkpoint = deployed(name), checkpoint_of(name)
    settings = {"parts": "true" if parts else "false"}
    taken = {each: spec.replace(" ", " -1 ", 1) if parts else spec for each, spec in tensors.items()}
    before = part(
        "pipeline_preprocess.py", whole, checkpoint, tmp_path, inputs=tensors_of(whole.config.input),
        outputs={**taken, **CONTEXT}, settings=settings,
    )  # fmt: skip
    made = before.ask(inputs, parameters)
    rows = {each: made[each][0] if parts else made[each] for each in tensors}
    fields = run_network(whole.model.pipe.model, rows)
    if parts:
        fields = {each: value[None] for each, value in fields.items()}
    settings["fields"] = " ".join(fields)
    specs = {each: spec_of(value) for each, value in fields.items()}
    after = part(
        "pipeline_postprocess.py", whole, checkpoint, tmp_path, inputs={**specs, **taken, **CONTEXT},
        outputs=tensors_of(whole.config.output), settings=settings,
    )  # fmt: skip
    assert_equal(after.ask({**made, **fields}, parameters), whole.ask(inputs, parameters))


def test_input_of_several_parts_is_refused_by_a_model_that_takes_one(
    deployed: Deployed, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    name = "automatic-speech-recognition"
    before = part(
        "pipeline_preprocess.py", deployed(name), checkpoint_of(name), tmp_path,
        inputs={"audio": "TYPE_STRING 1"}, outputs={"input_values": "TYPE_FP32 -1", **CONTEXT},
    )  # fmt: skip
    (outcome,) = before.execute([before.request(sound(1.0), {"chunk_length_s": 0.4})])
    assert "parts; this model takes one: send a smaller input" in str(outcome)
