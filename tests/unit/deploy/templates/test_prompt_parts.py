"""Prompts, generation and texts as three parts answer as the whole pipeline; requests of one batch as alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from conch.deploy.split.parts import CannotSplit
from conch.deploy.split.prompts import light_prompts
from conch.deploy.split.tokenizer import light_decoder
from tests.unit.deploy.conftest import Deployed
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import load_part, settings_of, tensors_of, text_rows
from tests.unit.deploy.templates.test_pipeline_parts import assert_equal

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

Inputs = dict[str, np.ndarray]
TOKENS = {"input_ids": "TYPE_INT64 -1", "attention_mask": "TYPE_INT64 -1"}
NEW_TOKENS = {"new_tokens": "TYPE_INT64 -1 -1"}
TOLD = {
    "finish_reason": "TYPE_STRING -1",
    "prompt_tokens": "TYPE_INT32 1",
    "completion_tokens": "TYPE_INT32 -1",
    "logprobs": "TYPE_STRING -1",
}
GREEDY = {"max_new_tokens": 12, "do_sample": False}
NAME = "text-generation"


class Parts(NamedTuple):
    before: LocalModel
    core: LocalModel
    after: LocalModel
    whole: LocalModel

    def ask(self, inputs: Inputs, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
        sent = dict(parameters)
        made = self.core.ask(self.before.ask(inputs, sent), sent)
        texts = self.after.ask({**inputs, "new_tokens": made["new_tokens"]}, sent)
        return {**texts, **{name: made[name] for name in TOLD}}

    def generate(self, *texts: str, **parameters: Any) -> list[Any]:
        """The new tokens of each text, all of them asked for in one batch; or its error."""
        prompts = [self.before.ask({"text": text_rows([text])}) for text in texts]
        outcomes = self.core.execute([self.core.request(prompt, parameters) for prompt in prompts])
        return [each["new_tokens"][0].tolist() if isinstance(each, dict) else each for each in outcomes]


@pytest.fixture(scope="module")
def parts_of(
    deployed: Deployed, checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Parts]:
    made: dict[str, Parts] = {}

    def load(name: str) -> Parts:
        if name not in made:
            whole, directory = deployed(name), tmp_path_factory.mktemp("parts")
            pipe, settings = whole.model.pipe, settings_of(whole)
            inputs, outputs = tensors_of(whole.config.input), tensors_of(whole.config.output)
            before = load_part(
                directory, "tokenize_prompt.py", inputs, TOKENS, settings, light_prompts(pipe, pipe.model.config)[1]
            )
            core = load_part(
                directory,
                "generate.py",
                TOKENS,
                {**NEW_TOKENS, **TOLD},
                settings,
                checkpoint=checkpoint_of(name),
                weights=True,
            )
            contents = light_decoder(pipe.tokenizer, pipe.model.config)[1]
            outputs = {each: spec for each, spec in outputs.items() if each not in TOLD}
            after = load_part(directory, "decode_text.py", {**inputs, **NEW_TOKENS}, outputs, settings, contents)
            made[name] = Parts(before, core, after, whole)
        return made[name]

    return load


@pytest.fixture
def parts(parts_of: Callable[[str], Parts]) -> Parts:
    return parts_of(NAME)


def conversation(*messages: tuple[str, str]) -> Inputs:
    sent = [{"role": role, "content": content} for role, content in messages]
    return {"messages": text_rows([json.dumps(sent)])}


ASKED: dict[str, Inputs] = {
    "text": {"text": text_rows(["The wind"])},
    "spaces": {"text": text_rows(["  The  wind\n"])},
    "conversation": conversation(("system", "Be brief."), ("user", "Who came?")),
    "continued": conversation(("user", "Who came?"), ("assistant", "The wind ")),
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "greedy": GREEDY,
    "new text": {**GREEDY, "return_full_text": False},
    "special tokens": {**GREEDY, "skip_special_tokens": False},
    "beams": {**GREEDY, "num_beams": 3, "num_return_sequences": 2},
    "stop": {**GREEDY, "stop_sequence": '["e", " w"]'},
    "truncation": {**GREEDY, "truncation": True},
    "likelihoods": {**GREEDY, "logprobs": 2, "num_return_sequences": 2, "do_sample": True, "seed": 1},
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("parameters", PARAMETERS)
def test_parts_answer_as_the_whole_pipeline(asked: str, parameters: str, parts: Parts) -> None:
    inputs, sent = ASKED[asked], PARAMETERS[parameters]
    assert_equal(parts.ask(inputs, sent), parts.whole.ask(inputs, dict(sent)))


def test_checkpoint_without_chat_template_and_padding(parts_of: Callable[[str], Parts]) -> None:
    parts = parts_of("text-generation.gpt2")
    inputs = {"text": text_rows(["The wind came"])}
    assert_equal(parts.ask(inputs, GREEDY), parts.whole.ask(inputs, GREEDY))
    (outcome,) = parts.before.execute([parts.before.request(ASKED["conversation"], GREEDY)])
    assert "no chat template: send the input `text`" in str(outcome)


def test_likelihoods_are_those_of_the_models_own_logits(parts: Parts) -> None:
    """Temperature and what else changes the choice of tokens has no part in them."""
    pipe = parts.whole.model.pipe
    encoded = pipe.tokenizer("The wind", return_tensors="pt")
    with torch.inference_mode():
        made = pipe.model.generate(
            **encoded, **GREEDY, repetition_penalty=1.5, output_logits=True, return_dict_in_generate=True
        )
    tokens = made.sequences[0, encoded["input_ids"].shape[1] :].tolist()
    expected = torch.cat(made.logits).log_softmax(-1)
    inputs = {"text": text_rows(["The wind"])}
    told = parts.whole.ask(inputs, {**GREEDY, "repetition_penalty": 1.5, "logprobs": 3})
    entries = json.loads(told["logprobs"][0, 0])
    assert [entry["logprob"] for entry in entries] == pytest.approx(
        [expected[place, token].item() for place, token in enumerate(tokens)], abs=1e-5
    )
    for place, entry in enumerate(entries):
        best = expected[place].topk(3)
        assert [top["logprob"] for top in entry["top_logprobs"]] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert [bytes(top["bytes"]).decode("utf-8", "replace") for top in entry["top_logprobs"]] == [
            pipe.tokenizer.decode([token]) for token in best.indices.tolist()
        ]
    text = b"".join(bytes(entry["bytes"]) for entry in entries).decode()
    assert told["generated_text"][0, 0].decode() == f"The wind{text}"
    assert "logprobs" not in {name for name, value in parts.whole.ask(inputs, GREEDY).items() if value.any()}


def test_neighbours_are_counted_and_end_apart(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {**GREEDY, "max_new_tokens": 40, "stop_sequence": "e", "logprobs": 0}
    asked = [{"text": text_rows([text])} for text in TEXTS]
    alone = [parts.whole.ask(each, sent) for each in asked]
    monkeypatch.setattr(parts.whole.model.settings, "max_padding", 100.0)
    together = parts.whole.execute([parts.whole.request(each, sent) for each in asked])
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, dict)
        assert one["finish_reason"].tolist() == [[b"stop"]]
        for name in ("prompt_tokens", "completion_tokens", "generated_text"):
            assert one[name].tolist() == other[name].tolist()
        assert len(json.loads(one["logprobs"][0, 0])) == one["completion_tokens"][0, 0]
    assert len({each["completion_tokens"][0, 0] for each in alone}) > 1


TEXTS = ("The wind", "We walked along the harbour in Lisbon", "A large", "The")


def calls_of(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each call of the model's `generate` is given."""
    calls: list[int] = []
    generate = parts.core.model.pipe.model.generate

    def counted(**arguments: Any) -> Any:
        calls.append(len(arguments["input_ids"]))
        return generate(**arguments)

    monkeypatch.setattr(parts.core.model.pipe.model, "generate", counted)
    return calls


def test_requests_of_equal_parameters_are_generated_together_and_answered_as_alone(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [parts.generate(text, **GREEDY)[0] for text in TEXTS]
    calls = calls_of(parts, monkeypatch)
    monkeypatch.setattr(parts.core.model.settings, "max_padding", 100.0)
    assert parts.generate(*TEXTS, **GREEDY) == alone
    assert calls == [len(TEXTS)]


def test_rows_of_one_request_are_padded_on_the_left(parts: Parts) -> None:
    rows = parts.before.ask({"text": text_rows(*([text] for text in TEXTS))})
    assert rows["attention_mask"][0, 0] == 0
    assert rows["attention_mask"][:, -1].all()
    together = parts.core.ask(rows, GREEDY)["new_tokens"]
    for row, text in zip(together, TEXTS, strict=True):
        assert row[row >= 0].tolist() == parts.generate(text, **GREEDY)[0][0]


def test_requests_of_unequal_parameters_are_generated_apart(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_of(parts, monkeypatch)
    prompts = [parts.before.ask({"text": text_rows([text])}) for text in ("The wind", "The kite", "The boat")]
    lengths = (3, 5, 3)
    sent = [{**GREEDY, "max_new_tokens": length, "min_new_tokens": length} for length in lengths]
    outcomes = parts.core.execute(
        [parts.core.request(prompt, each) for prompt, each in zip(prompts, sent, strict=True)]
    )
    assert calls == [2, 1]
    shapes = [each["new_tokens"].shape for each in outcomes if isinstance(each, dict)]
    assert shapes == [(1, 1, length) for length in lengths]


def test_end_of_a_longer_neighbour_is_no_token_of_a_shorter_text(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches go on until the last text ends; what the model makes of the others meanwhile is padding."""
    stop = {**GREEDY, "max_new_tokens": 40, "stop_sequence": "e"}
    alone = [parts.generate(text, **stop)[0] for text in TEXTS]
    assert len({len(each[0]) for each in alone}) > 1, "the texts should end after unequal numbers of tokens"
    monkeypatch.setattr(parts.core.model.settings, "max_padding", 100.0)
    assert [each[0] for each in parts.generate(*TEXTS, **stop)] == [each[0] for each in alone]


def test_seed_draws_the_same_tokens_whatever_else_is_asked(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_of(parts, monkeypatch)
    drawn = {"max_new_tokens": 12, "do_sample": True, "temperature": 5.0, "top_k": 0}
    (alone,) = parts.generate("The wind", seed=7, **drawn)
    first, second = parts.generate("The wind", "The wind", seed=7, **drawn)
    assert first == second == alone
    assert parts.generate("The wind", seed=8, **drawn) != [alone]
    assert calls == [1, 1, 1, 1]
    state = torch.random.get_rng_state()
    parts.generate("The wind", seed=7, **drawn)
    assert torch.equal(torch.random.get_rng_state(), state), "a seed is for its own request"


def test_sampling_parameters_reach_the_model(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = parts.generate("The wind", **GREEDY)
    assert parts.generate("The wind", max_new_tokens=12, do_sample=True, temperature=1e-4) == greedy
    assert parts.generate("The wind", max_new_tokens=12, do_sample=True, temperature=50.0, top_k=1) == greedy
    assert parts.generate("The wind", max_new_tokens=12, do_sample=True, temperature=50.0, top_p=1e-6) == greedy


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"max_tokens": 3}, "unknown request parameters ['max_tokens']; text-generation takes: do_sample"),
        ({"temperature": "warm"}, "request parameter 'temperature' should be of kind float, got 'warm'"),
        ({"stop_sequence": "[]"}, "request parameter 'stop_sequence' should be of kind texts, got '[]'"),
        ({"logprobs": 21}, "request parameter 'logprobs' should be from 0 to 20, got 21"),
        ({"logprobs": 1, "num_beams": 2}, "'logprobs' and 'json_schema' need num_beams=1"),
        ({"seed": "x"}, "request parameter 'seed' should be of kind int, got 'x'"),
    ],
)
def test_wrong_parameters_are_refused_and_cost_no_neighbour(
    parts: Parts, parameters: dict[str, Any], text: str
) -> None:
    prompt = parts.before.ask({"text": text_rows(["The wind"])})
    good, bad = parts.core.execute([parts.core.request(prompt, each) for each in (GREEDY, parameters)])
    assert isinstance(good, dict)
    assert text in str(bad)


@pytest.mark.parametrize("template", ["generate", "generation"])
def test_cancelled_request_ends_and_its_neighbour_does_not(
    parts: Parts, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = parts.core if template == "generate" else parts.whole
    asked = [{"text": text_rows([text])} for text in ("The wind", "The boat")]
    inputs = [parts.before.ask(each) for each in asked] if template == "generate" else asked
    sent = {**GREEDY, "max_new_tokens": 30, "min_new_tokens": 30, "return_full_text": False}
    monkeypatch.setitem(type(model.model).execute.__globals__["until_gone"].__globals__, "LOOK_S", 0.0)
    name = "new_tokens" if template == "generate" else "generated_text"
    (before,) = model.execute([model.request(inputs[1], sent)])
    requests = [model.request(each, sent) for each in inputs]
    looks: Iterator[bool] = iter([False, False])
    requests[0].cancelled = lambda: next(looks, True)
    ended, other = model.execute(requests)
    assert isinstance(ended, dict)
    assert isinstance(other, dict)
    assert isinstance(before, dict)
    np.testing.assert_array_equal(other[name], before[name])
    if template == "generate":
        assert ended["new_tokens"].shape[-1] < 6


def test_tokenizer_that_the_pipeline_uses_otherwise_keeps_the_pipelines_own_preprocess(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = parts.whole.model.pipe
    monkeypatch.setattr(pipe, "_preprocess_params", {"prefix": "Once upon a time "})
    with pytest.raises(CannotSplit, match="the pipeline makes other input_ids of 'The wind came"):
        light_prompts(pipe, pipe.model.config)


def test_template_that_light_code_reads_otherwise_keeps_the_pipelines_own_preprocess(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = parts.whole.model.pipe
    preprocess = pipe.preprocess

    def longer(prompt: Any, **options: Any) -> Any:
        made = preprocess(prompt, **options)
        if not isinstance(prompt, str):
            made["input_ids"] = torch.nn.functional.pad(made["input_ids"], (0, 1))
        return made

    monkeypatch.setattr(pipe, "preprocess", longer)
    with pytest.raises(CannotSplit, match=r"the chat template makes another prompt of .*What is this"):
        light_prompts(pipe, pipe.model.config)
