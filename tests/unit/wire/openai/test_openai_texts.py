"""Conversations and completions: every parameter is honoured or refused by its name, and answers have OpenAI's form."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from conch.errors import BackendError, Code
from conch.wire.http.messages import HttpRequest, Pending, RequestHead, Streamed
from tests.unit.wire.openai.fakes import Answer, TextServer, app_of, ask, piece

_USER = [{"role": "user", "content": "Hello"}]
_CALLED = "messages[0].tool_calls[0]"


def _call(arguments: str) -> dict[str, Any]:
    return {"id": "a", "type": "function", "function": {"name": "look", "arguments": arguments}}


def chat(server: TextServer, **fields: Any) -> Answer:
    body = {"model": "writer", "messages": _USER, **fields}
    return ask(app_of(server), "POST", "/v1/chat/completions", body)


def complete(server: TextServer, **fields: Any) -> Answer:
    return ask(app_of(server), "POST", "/v1/completions", {"model": "writer", "prompt": "The wind", **fields})


def sent(server: TextServer) -> dict[str, Any]:
    """The parameters of the only request that reached the model."""
    (request,) = server.requests
    return dict(request.parameters)


def test_a_conversation_is_answered_as_one_document() -> None:
    answer = chat(TextServer())
    assert answer.status == 200
    document = answer.json
    assert document.pop("id").startswith("chatcmpl-")
    assert document == {
        "object": "chat.completion",
        "created": 5,
        "model": "writer",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The sea."},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def test_a_completion_is_answered_as_one_document() -> None:
    document = complete(TextServer()).json
    assert document.pop("id").startswith("cmpl-")
    assert document["object"] == "text_completion"
    assert document["choices"] == [{"index": 0, "text": "The sea.", "logprobs": None, "finish_reason": "stop"}]


def test_a_conversation_is_streamed_piece_by_piece() -> None:
    answer = chat(TextServer(), stream=True)
    assert "text/event-stream" in answer.head
    *chunks, done = answer.events
    assert done == "[DONE]"
    documents = [json.loads(chunk) for chunk in chunks]
    assert {(each["object"], "usage" in each) for each in documents} == {("chat.completion.chunk", False)}
    assert [(each["choices"][0]["delta"], each["choices"][0]["finish_reason"]) for each in documents] == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "The"}, None),
        ({"content": " sea"}, None),
        ({"content": "."}, None),
        ({}, "stop"),
    ]


def test_a_stream_ends_with_its_usage_where_that_is_asked_for() -> None:
    *chunks, last, done = complete(TextServer(), stream=True, stream_options={"include_usage": True}).events
    assert done == "[DONE]"
    assert all(json.loads(chunk)["usage"] is None for chunk in chunks)
    assert json.loads(last)["choices"] == []
    assert json.loads(last)["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_a_model_that_answers_once_is_streamed_as_one_piece() -> None:
    *chunks, done = complete(TextServer(), model="plain", stream=True).events
    assert done == "[DONE]"
    assert [json.loads(chunk)["choices"][0]["text"] for chunk in chunks] == ["The sea."]


def test_a_model_that_does_not_say_is_not_spoken_for() -> None:
    """It counts no tokens and does not tell why it ended."""
    server = TextServer()
    document = complete(server, model="plain").json
    assert "usage" not in document
    assert document["choices"][0]["finish_reason"] is None
    assert server.requests[0].parameters["return_full_text"] is False
    assert server.requests[0].inputs[0].shape == (1, 1)
    refused = complete(server, model="plain", stream=True, stream_options={"include_usage": True})
    assert (refused.status, refused.json["error"]["param"]) == (400, "stream_options.include_usage")


def test_a_model_that_answers_once_may_tell_as_much_as_one_that_streams() -> None:
    server = TextServer()
    document = complete(server, model="counter").json
    assert document["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert document["choices"][0]["finish_reason"] == "length"
    *_, reason, last, _ = complete(server, model="counter", stream=True, stream_options={"include_usage": True}).events
    assert json.loads(reason)["choices"][0]["finish_reason"] == "length"
    assert json.loads(last)["usage"]["total_tokens"] == 10


def entry(token: str, likelihood: float, *others: tuple[str, float]) -> dict[str, Any]:
    """What a model tells of a token."""
    top = [{"token": text, "logprob": value, "bytes": list(text.encode())} for text, value in others]
    return {"token": token, "logprob": likelihood, "bytes": list(token.encode()), "top_logprobs": top}


_LIKELIHOODS = [entry("The", -0.5, ("A", -0.25)), entry(" sea.", -1.0, (" sea.", -1.0))]


def likely_server() -> TextServer:
    """Models that tell how likely their tokens were."""
    server = TextServer()
    server.script = (
        piece("The", 1, logprobs=json.dumps(_LIKELIHOODS[:1])),
        piece(" sea.", 3, "stop", logprobs=json.dumps(_LIKELIHOODS[1:])),
    )
    server.logprobs = json.dumps(_LIKELIHOODS)
    return server


@pytest.mark.parametrize("model", ["writer", "counter"])
def test_likelihoods_of_a_conversation(model: str) -> None:
    server = likely_server()
    (choice,) = chat(server, model=model, logprobs=True, top_logprobs=1).json["choices"]
    assert choice["logprobs"] == {"content": _LIKELIHOODS, "refusal": None}
    assert sent(server)["logprobs"] == 1
    *chunks, _ = chat(server, model=model, logprobs=True, stream=True).events
    told = [json.loads(chunk)["choices"][0]["logprobs"] for chunk in chunks]
    assert [each for one in told if one for each in one["content"]] == _LIKELIHOODS
    assert server.requests[-1].parameters["logprobs"] == 0


@pytest.mark.parametrize("model", ["writer", "counter"])
def test_likelihoods_of_a_completion(model: str) -> None:
    server = likely_server()
    (choice,) = complete(server, model=model, logprobs=1).json["choices"]
    assert choice["logprobs"] == {
        "tokens": ["The", " sea."],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"A": -0.25, "The": -0.5}, {" sea.": -1.0}],
        "text_offset": [0, 3],
    }
    *chunks, _ = complete(server, model=model, logprobs=0, stream=True).events
    told = [json.loads(chunk)["choices"][0]["logprobs"] for chunk in chunks]
    assert [offset for one in told if one for offset in one["text_offset"]] == [0, 3]


def test_likelihoods_are_of_the_tokens_before_a_stop() -> None:
    server = likely_server()
    (choice,) = chat(server, model="counter", logprobs=True, stop=" sea").json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("The", "stop")
    assert [each["token"] for each in choice["logprobs"]["content"]] == ["The"]


def test_the_text_of_a_model_that_answers_once_ends_before_a_stop() -> None:
    server = TextServer()
    choice = complete(server, model="plain", stop=["sea", "e s"]).json["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Th", "stop")
    assert server.requests[0].parameters["stop_sequence"] == '["sea", "e s"]'


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({}, {"max_new_tokens": 16}),
        ({"max_tokens": 3}, {"max_new_tokens": 3}),
        ({"min_tokens": 2}, {"max_new_tokens": 16, "min_new_tokens": 2}),
        ({"temperature": 0}, {"max_new_tokens": 16, "do_sample": False}),
        ({"temperature": 0.5}, {"max_new_tokens": 16, "do_sample": True, "temperature": 0.5}),
        ({"top_p": 0.9}, {"max_new_tokens": 16, "do_sample": True, "top_p": 0.9}),
        ({"top_p": 0.9, "temperature": 0}, {"max_new_tokens": 16, "do_sample": False}),
        ({"frequency_penalty": 1, "presence_penalty": 0}, {"max_new_tokens": 16, "frequency_penalty": 1.0}),
        ({"presence_penalty": -1.5}, {"max_new_tokens": 16, "presence_penalty": -1.5}),
        ({"seed": 9}, {"max_new_tokens": 16, "seed": 9}),
        ({"stop": "."}, {"max_new_tokens": 16, "stop_sequence": '["."]'}),
        ({"ignore_eos": True}, {"max_new_tokens": 16, "ignore_eos": True}),
        ({"ignore_eos": False, "logit_bias": {}, "n": 1, "user": "me"}, {"max_new_tokens": 16}),
        ({"max_tokens": None, "stop": None, "stream": None, "n": None}, {"max_new_tokens": 16}),
    ],
)
def test_parameters_become_those_of_the_model(fields: dict[str, Any], parameters: dict[str, Any]) -> None:
    for call in (chat, complete):
        server = TextServer()
        assert call(server, **fields).status == 200
        assert sent(server) == parameters


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({"max_tokens": 9, "max_completion_tokens": 4}, {"max_new_tokens": 4}),
        ({"response_format": {"type": "text"}, "tool_choice": "none", "tools": []}, {"max_new_tokens": 16}),
        ({"logprobs": False, "top_logprobs": 0}, {"max_new_tokens": 16}),
    ],
)
def test_parameters_of_conversations(fields: dict[str, Any], parameters: dict[str, Any]) -> None:
    server = TextServer()
    assert chat(server, **fields).status == 200
    assert sent(server) == parameters


def test_parameters_of_completions() -> None:
    server = TextServer()
    assert complete(server, prompt=["Hi"], best_of=1, echo=False, suffix="", logprobs=None).status == 200
    assert server.requests[0].inputs[0].as_numpy().tolist() == [b"Hi"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"min_tokens": 17}, "min_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"presence_penalty": -3}, "presence_penalty"),
        ({"seed": -1}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"more": True}}, "stream_options.more"),
        ({"beam_width": 3}, "beam_width"),
        ({"model": "plain", "presence_penalty": 1}, "presence_penalty"),
        ({"model": "plain", "ignore_eos": True}, "ignore_eos"),
        ({"model": "embedder"}, "model"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    for call in (chat, complete):
        server = TextServer()
        refused = call(server, **fields)
        error = refused.json["error"]
        assert (refused.status, error["type"], error["param"], error["code"]) == (
            400,
            "invalid_request_error",
            param,
            None,
        )
        assert param.rpartition(".")[2] in error["message"]
        assert not server.requests


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"model": "plain", "logprobs": True}, "logprobs"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "oracle", "content": "1"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "1"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"content": "1"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "", "tool_calls": []}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, _CALLED),
        ({"messages": [{"role": "assistant", "tool_calls": [_call("[]")]}]}, f"{_CALLED}.function.arguments"),
        ({"messages": [{"role": "assistant", "tool_calls": [_call("{")]}]}, f"{_CALLED}.function.arguments"),
        ({"messages": [{"role": "assistant", "tool_calls": [{**_call("{}"), "id": 3}]}]}, f"{_CALLED}.id"),
        ({"messages": [{"role": "user", "content": "", "name": 3}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [*_USER, {"role": "user", "content": [{"type": "image_url"}]}]}, "messages[1].content[0].type"),
        ({"messages": "Hello"}, "messages"),
    ],
)
def test_what_conversations_cannot_have_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    server = TextServer()
    refused = chat(server, **fields)
    assert (refused.status, refused.json["error"]["param"]) == (400, param)
    assert not server.requests


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "."}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"model": "plain", "logprobs": 1}, "logprobs"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1]]}, "prompt"),
    ],
)
def test_what_completions_cannot_have_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    server = TextServer()
    refused = complete(server, **fields)
    assert (refused.status, refused.json["error"]["param"]) == (400, param)
    assert not server.requests


def test_messages_reach_the_model_as_texts() -> None:
    server = TextServer()
    parts = [{"type": "text", "text": "Is it "}, {"type": "text", "text": "müd?"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts, "name": "Ada"}]
    assert chat(server, messages=messages).status == 200
    (tensor,) = server.requests[0].inputs
    assert tensor.name == "messages"
    assert json.loads(tensor.as_numpy()[0]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "Ada", "content": "Is it müd?"},
    ]


def test_calls_and_their_results_reach_the_model_as_templates_want_them() -> None:
    server = TextServer()
    called = {"role": "assistant", "content": None, "tool_calls": [_call('{"place": "sea"}')]}
    result = {"role": "tool", "tool_call_id": "a", "content": "calm"}
    assert chat(server, messages=[*_USER, called, result]).status == 200
    function = {"name": "look", "arguments": {"place": "sea"}}
    assert json.loads(server.requests[0].inputs[0].as_numpy()[0]) == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "type": "function", "function": function}]},
        {"role": "tool", "content": "calm", "tool_call_id": "a"},
    ]


def test_a_model_that_does_not_say_what_it_takes_gets_everything() -> None:
    server = TextServer()
    config = server.models["writer"].config
    server.models["writer"].config = msgspec.structs.replace(config, parameters={})
    assert complete(server, presence_penalty=1).status == 200
    assert sent(server) == {"max_new_tokens": 16, "presence_penalty": 1.0}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "the body is not JSON"),
        (b"[1]", "'the body' is wrong: Expected `object`, got `array`"),
        (b'{"prompt": "x"}', "'model' is missing"),
        (b'{"model": "writer"}', "'prompt' is missing"),
        (b'{"model": "writer", "prompt": "\xff"}', "the body is not JSON"),
    ],
)
def test_bodies_that_are_no_request_are_refused(body: bytes, text: str) -> None:
    refused = ask(app_of(TextServer()), "POST", "/v1/completions", body)
    assert refused.status == 400
    assert text in refused.json["error"]["message"]


def test_an_unknown_model_is_not_found() -> None:
    for name in ("nobody", "simple"):
        refused = chat(TextServer(), model=name)
        assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(("code", "status"), [(Code.INVALID_ARG, 400), (Code.INTERNAL, 500), (Code.UNAVAILABLE, 503)])
def test_an_error_before_the_first_piece_decides_the_status(code: Code, status: int) -> None:
    server = TextServer()
    server.script = (BackendError("the prompt is too long", code),)
    for stream in (False, True):
        refused = complete(server, stream=stream)
        assert refused.status == status
        assert refused.json["error"]["message"] == "the prompt is too long"


def test_an_error_after_the_first_piece_ends_the_stream() -> None:
    server = TextServer()
    server.script = (piece("The", 1), BackendError("out of memory"))
    first, last = complete(server, stream=True).events
    assert json.loads(first)["choices"][0]["text"] == "The"
    assert json.loads(last)["error"]["message"] == "out of memory"
    assert complete(server).status == 500


def test_a_client_that_leaves_gives_the_request_up() -> None:
    server = TextServer()
    server.script = ()

    async def leave() -> None:
        body = json.dumps({"model": "writer", "prompt": "x", "stream": True}).encode()
        outcome = app_of(server).dispatch(HttpRequest(RequestHead(b"POST", b"/v1/completions", {}), body))
        assert isinstance(outcome, Pending)
        first = asyncio.ensure_future(outcome.awaitable)
        await asyncio.sleep(0)
        server.emit(piece("The", 1))
        streamed = outcome.finish(await first)
        assert isinstance(streamed, Streamed)
        assert b"The" in await anext(streamed.pieces)
        await streamed.pieces.aclose()
        await asyncio.sleep(0)

    asyncio.run(leave())
    assert server.cancelled == 1
