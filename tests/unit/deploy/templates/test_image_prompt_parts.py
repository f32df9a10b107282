"""Prompts about images: tokens and pixels without transformers, and the generation answer as the whole pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from conch.deploy.split.encoder import encoder_name, encoder_setting
from conch.deploy.split.image_prompts import light_image_prompts
from conch.deploy.split.parts import CannotSplit
from tests.checkpoints import samples
from tests.unit.deploy.conftest import Deployed
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import encoded, load_part, settings_of, tensors_of, text_rows
from tests.unit.deploy.templates.test_pipeline_parts import assert_equal

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Inputs = dict[str, np.ndarray]
MADE = {
    "input_ids": "TYPE_INT64 -1",
    "attention_mask": "TYPE_INT64 -1",
    "pixel_values": "TYPE_FP32 -1 3 -1 -1",
    "images": "TYPE_INT64 1",
}
STATES = {"encoder_hidden_states": "TYPE_FP32 -1 -1 -1"}
GREEDY = {"max_new_tokens": 12, "do_sample": False}
TALKS, CAPTIONS = "image-text-to-text", "image-text-to-text.git"


class Parts(NamedTuple):
    before: LocalModel
    core: LocalModel
    whole: LocalModel

    def prepared(self, inputs: Inputs, parameters: dict[str, Any]) -> Inputs:
        return {**self.before.ask(inputs, parameters), **inputs}


@pytest.fixture(scope="module")
def parts_of(
    deployed: Deployed, checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Parts]:
    """The parts of a checkpoint; with `states`, an engine runs the encoder."""
    made: dict[tuple[str, bool], Parts] = {}

    def load(name: str, *, states: bool = False) -> Parts:
        if (name, states) not in made:
            whole, directory = deployed(name), tmp_path_factory.mktemp("parts")
            pipe, settings = whole.model.pipe, settings_of(whole)
            (own, contents), _ = light_image_prompts(pipe, pipe.model.config)
            inputs, outputs = tensors_of(whole.config.input), tensors_of(whole.config.output)
            light = {**settings, **{key: value for key, value, _ in own}}
            if states:
                light["some_pixels"] = "true"
                settings |= {key: value for key, value, _ in encoder_setting(pipe.model, "pixel_values")}
            before = load_part(directory, "process_image_prompt.py", inputs, MADE, light, contents)
            core = load_part(
                directory, "generate.py", {**MADE, **(STATES if states else {}), **inputs}, outputs, settings,
                checkpoint=checkpoint_of(name), weights=True,
            )  # fmt: skip
            made[name, states] = Parts(before, core, whole)
        return made[name, states]

    return load


def pictures(*sizes: tuple[int, int]) -> np.ndarray:
    """One row of encoded images."""
    array = np.empty((1, len(sizes)), object)
    array[0] = [encoded(samples.image(*size, seed=number)) for number, size in enumerate(sizes)]
    return array


def conversation(*kinds: str, answer: str = "") -> np.ndarray:
    content = [{"type": kind} if kind == "image" else {"type": "text", "text": kind} for kind in kinds]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if answer:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return text_rows([json.dumps(messages)])


ASKED: dict[str, tuple[str, Inputs]] = {
    "one image": (TALKS, {"messages": conversation("image", "What is this?"), "image": pictures((64, 48))}),
    "two images": (
        TALKS,
        {"messages": conversation("image", "And", "image", "?"), "image": pictures((64, 48), (30, 90))},
    ),
    "no image": (TALKS, {"messages": conversation("Who are you?")}),
    "continued": (TALKS, {"messages": conversation("image", "?", answer="It is "), "image": pictures((64, 48))}),
    "caption": (CAPTIONS, {"text": text_rows(["a"]), "image": pictures((64, 48))}),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("parameters", [GREEDY, {**GREEDY, "num_beams": 2, "num_return_sequences": 2}])
def test_parts_answer_as_the_whole_pipeline(
    asked: str, parameters: dict[str, Any], parts_of: Callable[..., Parts]
) -> None:
    name, inputs = ASKED[asked]
    parts = parts_of(name)
    expected = parts.whole.ask(inputs, dict(parameters))
    got = parts.core.ask(parts.prepared(inputs, parameters), parameters)
    assert_equal(got, expected)
    assert json.loads(got["json"][0, 0]) == json.loads(expected["json"][0, 0])


def test_images_of_several_requests_share_a_generate(
    parts_of: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = parts_of(CAPTIONS)
    asked = [{"text": text_rows([text]), "image": pictures(size)} for text, size in (("a", (64, 48)), ("a", (80, 90)))]
    expected = [parts.whole.ask(each, dict(GREEDY)) for each in asked]
    calls: list[int] = []
    generate = parts.core.model.pipe.model.generate

    def counted(**arguments: Any) -> Any:
        calls.append(len(arguments["input_ids"]))
        return generate(**arguments)

    monkeypatch.setattr(parts.core.model.pipe.model, "generate", counted)
    outcomes = parts.core.execute([parts.core.request(parts.prepared(each, GREEDY), GREEDY) for each in asked])
    assert calls == [2]
    for got, want in zip(outcomes, expected, strict=True):
        assert isinstance(got, dict)
        assert_equal(got, want)


@pytest.mark.parametrize("name", [CAPTIONS, "image-text-to-text.blip"])
def test_model_is_told_the_states_of_images_and_keeps_its_encoder_idle(
    name: str, parts_of: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = parts_of(name, states=True)
    asked = [{"text": text_rows(["a"]), "image": pictures(size)} for size in ((64, 48), (80, 90))]
    expected = [parts.whole.ask(each, dict(GREEDY)) for each in asked]
    known = parts.core.model.encoder
    requests = []
    for each in asked:
        made = parts.before.ask(each, dict(GREEDY))
        with torch.inference_mode():
            states = known.own(pixel_values=torch.from_numpy(made["pixel_values"][0])).last_hidden_state
        requests.append(parts.core.request({**made, **each, "encoder_hidden_states": states[None].numpy()}, GREEDY))

    def unused(**_: Any) -> None:
        raise AssertionError("the encoder ran again")

    monkeypatch.setattr(known, "own", unused)
    for got, want in zip(parts.core.execute(requests), expected, strict=True):
        assert isinstance(got, dict), got
        assert_equal(got, want)


def test_prompt_without_an_image_brings_a_black_one_for_the_encoder(parts_of: Callable[..., Parts]) -> None:
    parts = parts_of(CAPTIONS, states=True)
    asked = {"text": text_rows(["a photo"])}
    made = parts.before.ask(asked, dict(GREEDY))
    assert made["images"].tolist() == [[0]]
    assert made["pixel_values"].shape[1] == 1 and not made["pixel_values"].any()
    states = np.zeros((1, 1, 5, 32), np.float32)
    got = parts.core.ask({**made, **asked, "encoder_hidden_states": states}, dict(GREEDY))
    assert_equal(got, parts.whole.ask(asked, dict(GREEDY)))


def test_encoder_that_is_not_called_once_an_answer_stays_in_the_model(parts_of: Callable[..., Parts]) -> None:
    assert encoder_name(parts_of(TALKS).whole.model.pipe.model) is None


def test_text_and_messages_at_once_are_refused(parts_of: Callable[..., Parts]) -> None:
    parts = parts_of(TALKS)
    both = {"text": text_rows(["a"]), "messages": conversation("What?")}
    (outcome,) = parts.before.execute([parts.before.request(both, GREEDY)])
    assert "expected one of the inputs `text` and `messages`" in str(outcome)


def test_images_that_the_conversation_does_not_mention_are_refused(parts_of: Callable[..., Parts]) -> None:
    parts = parts_of(TALKS)
    asked = {"messages": conversation("What?"), "image": pictures((64, 48))}
    (outcome,) = parts.before.execute([parts.before.request(asked, GREEDY)])
    assert "hold more than `messages` mentions" in str(outcome)


def test_processor_that_makes_other_tensors_keeps_the_pipelines_own(
    parts_of: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = parts_of(CAPTIONS).whole.model.pipe
    preprocess = pipe.preprocess

    def brighter(*args: Any, **options: Any) -> Any:
        made = preprocess(*args, **options)
        made["pixel_values"] = made["pixel_values"] + 0.01
        return made

    monkeypatch.setattr(pipe, "preprocess", brighter)
    with pytest.raises(CannotSplit, match="the pipeline makes other pixel_values"):
        light_image_prompts(pipe, pipe.model.config)
