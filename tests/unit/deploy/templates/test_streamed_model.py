"""The model of `--stream`: pieces, counts, likelihoods, conversations that its template refuses, and JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from conch.deploy.plan import Choices
from conch.errors import BackendError, Code
from tests.unit.deploy.conftest import Deployed
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import text_rows

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

GREEDY = {"max_new_tokens": 12, "do_sample": False}
TEXT = {"text": np.array([b"The wind"], object)}
SCHEMA = {
    "type": "object",
    "properties": {"place": {"enum": ["sea", "harbour"]}, "boats": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["place", "boats"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def streamed(deployed: Deployed) -> LocalModel:
    return deployed("text-generation", Choices(stream=True))


@pytest.fixture(scope="module")
def whole(deployed: Deployed) -> LocalModel:
    return deployed("text-generation")


def texts_of(responses: list[dict[str, np.ndarray]], name: str = "text") -> list[str]:
    return [response[name][0].decode() for response in responses]


def conversation(*messages: dict[str, Any]) -> dict[str, np.ndarray]:
    return {"messages": np.array([json.dumps(messages).encode()], object)}


def test_pieces_and_likelihoods_are_those_of_the_model_that_answers_once(
    streamed: LocalModel, whole: LocalModel
) -> None:
    sent = {**GREEDY, "logprobs": 2}
    responses = streamed.stream(TEXT, sent)
    answer = whole.ask({"text": text_rows(["The wind"])}, {**sent, "return_full_text": False})
    assert "".join(texts_of(responses)) == answer["generated_text"][0, 0].decode()
    told = [entry for response in responses for entry in json.loads(response["logprobs"][0])]
    expected = json.loads(answer["logprobs"][0, 0])
    assert [each["token"] for each in told] == [each["token"] for each in expected]
    for one, other in zip(told, expected, strict=True):
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-5)
        assert [top["bytes"] for top in one["top_logprobs"]] == [top["bytes"] for top in other["top_logprobs"]]
    for name in ("prompt_tokens", "completion_tokens", "finish_reason"):
        assert responses[-1][name].tolist() == answer[name][0].tolist()
    for response in responses[:-1]:
        spelt = b"".join(bytes(entry["bytes"]) for entry in json.loads(response["logprobs"][0]))
        assert spelt.decode() == response["text"][0].decode()


def test_likelihoods_are_of_the_tokens_before_a_stop(streamed: LocalModel) -> None:
    text = "".join(texts_of(streamed.stream(TEXT, GREEDY)))
    stop = text[7:9]
    responses = streamed.stream(TEXT, {**GREEDY, "stop_sequence": stop, "logprobs": 0})
    told = [entry for response in responses for entry in json.loads(response["logprobs"][0])]
    spelt = b"".join(bytes(entry["bytes"]) for entry in told).decode()
    kept = "".join(texts_of(responses))
    assert kept == text[: text.index(stop)]
    assert spelt.startswith(kept)
    assert len(spelt) < len(kept) + max(len(entry["token"]) for entry in told)
    assert responses[-1]["finish_reason"].tolist() == [b"stop"]


def test_conversations_that_the_template_refuses_are_the_requests_fault(
    streamed: LocalModel, whole: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{{ raise_exception('Conversation roles must alternate') }}"
    refused = "the chat template refuses the conversation: Conversation roles must alternate"
    asked = conversation({"role": "user", "content": "Hello"})
    for model in (streamed, whole):
        monkeypatch.setattr(model.model.pipe.tokenizer, "chat_template", template)
    with pytest.raises(BackendError, match=refused) as caught:
        streamed.stream(asked, GREEDY)
    assert caught.value.code is Code.INVALID_ARG
    with pytest.raises(BackendError, match=refused) as caught:
        whole.ask({"messages": asked["messages"][None]}, GREEDY)
    assert caught.value.code is Code.INVALID_ARG
    for model in (streamed, whole):
        monkeypatch.setattr(model.model.pipe.tokenizer, "chat_template", None)
    with pytest.raises(BackendError, match="no chat template: send the input `text`") as caught:
        streamed.stream(asked, GREEDY)
    assert caught.value.code is Code.INVALID_ARG
    assert streamed.stream(TEXT, GREEDY)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"logprobs": -1}, "'logprobs' should be from 0 to 20, got -1"),
        ({"tools": "[1]"}, "'tools' should be a JSON list of objects"),
        ({"tools": "{"}, "'tools' is no JSON"),
    ],
)
def test_wrong_parameters_are_refused(streamed: LocalModel, parameters: dict[str, Any], text: str) -> None:
    with pytest.raises(BackendError, match=text) as caught:
        streamed.stream(TEXT, {**GREEDY, **parameters})
    assert caught.value.code is Code.INVALID_ARG


def test_tools_go_into_the_chat_template(streamed: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    template = (
        "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    monkeypatch.setattr(streamed.model.pipe.tokenizer, "chat_template", template)
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"b": 1, "a": 2}}}]
    asked = conversation({"role": "user", "content": "Hello"})
    spelt = json.dumps(tools[0]) + "Hello"
    expected = len(streamed.model.pipe.tokenizer(spelt, add_special_tokens=False)["input_ids"])
    last = streamed.stream(asked, {**GREEDY, "tools": json.dumps(tools)})[-1]
    assert last["prompt_tokens"].tolist() == [expected]


@pytest.mark.parametrize("draws", [{"do_sample": False}, {"do_sample": True, "temperature": 5.0, "seed": 3}])
def test_texts_are_json_of_a_schema(streamed: LocalModel, whole: LocalModel, draws: dict[str, Any]) -> None:
    pytest.importorskip("llguidance")
    sent = {**draws, "max_new_tokens": 200, "min_new_tokens": 100, "json_schema": json.dumps(SCHEMA)}
    responses = streamed.stream(TEXT, sent)
    written = json.loads("".join(texts_of(responses)))
    assert written.keys() == {"place", "boats"}
    assert written["place"] in ("sea", "harbour")
    assert responses[-1]["finish_reason"].tolist() == [b"stop"]
    rows = {"text": text_rows(["The wind"], ["A large boat came in"])}
    answer = whole.ask(rows, {**sent, "return_full_text": False, "num_return_sequences": 1})
    for text in answer["generated_text"][:, 0]:
        assert json.loads(text).keys() == {"place", "boats"}
    assert answer["finish_reason"].tolist() == [[b"stop"], [b"stop"]]


def test_schemas_that_cannot_be_enforced_are_refused(streamed: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llguidance")
    for schema in ('{"type": "boat"}', "[]", "{"):
        with pytest.raises(BackendError, match="'json_schema' cannot be enforced") as caught:
            streamed.stream(TEXT, {**GREEDY, "json_schema": schema})
        assert caught.value.code is Code.INVALID_ARG
    import sys

    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(BackendError, match=r"pip install llguidance") as caught:
        streamed.stream(TEXT, {**GREEDY, "json_schema": "{}"})
    assert caught.value.code is Code.INVALID_ARG
