"""Functions that may be called, and the form of answers: what the model is told, and what is made of its text."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from conch.wire.openai.tool_calls import PARSERS, Found, one_function, whole_list
from tests.unit.wire.openai.fakes import Answer, TextServer, app_of, ask, piece

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look out.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"$ref": "#/$defs/Place"}},
            "$defs": {"Place": {"type": "string"}},
        },
    },
}
WAIT = {"type": "function", "function": {"name": "wait"}}
SEA = '{"name": "look", "arguments": {"place": "sea"}}'
HERMES = f"<tool_call>\n{SEA}\n</tool_call>"
NAMED = {"type": "function", "function": {"name": "look"}}


def chat(server: TextServer, parser: str = "hermes", **fields: Any) -> Answer:
    body = {"model": "writer", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return ask(app_of(server, parser=parser), "POST", "/v1/chat/completions", body)


def server_of(text: str, reason: str = "stop", size: int = 3) -> TextServer:
    """`writer` sends the text in pieces of `size` characters, `counter` at once."""
    server = TextServer()
    parts = [text[begin : begin + size] for begin in range(0, len(text), size)]
    server.script = [*(piece(part, 1) for part in parts), piece("", 1, reason)]
    server.text, server.reason = text, reason
    return server


def split(parser: Any, text: str, size: int) -> list[Found]:
    """What is found in a text that comes in pieces, texts put together."""
    splitter, found = parser(), list[Found]()
    for begin in range(0, len(text), size):
        found += splitter.feed(text[begin : begin + size])
    merged: list[Found] = []
    for each in (*found, *splitter.end()):
        if isinstance(each, str) and merged and isinstance(merged[-1], str):
            merged[-1] += each
        else:
            merged.append(each)
    return merged


_SEA = ("look", '{"place": "sea"}')
_TEXTS: tuple[tuple[Any, str, list[Found]], ...] = (
    (PARSERS["hermes"], HERMES, [_SEA]),
    (PARSERS["hermes"], f"Let me see.\n\n{HERMES}\n{HERMES}\n", ["Let me see.", _SEA, _SEA]),
    (PARSERS["hermes"], f"<tool_call>{SEA}", [_SEA]),
    (PARSERS["hermes"], "a < b, <tool> \n", ["a < b, <tool> \n"]),
    (PARSERS["hermes"], "<tool_call>look!</tool_call>.", ["<tool_call>look!</tool_call>."]),
    (PARSERS["hermes"], '<tool_call>{"name": "lo', ['<tool_call>{"name": "lo']),
    (PARSERS["llama3"], '{"name": "look", "parameters": {"place": "sea"}}', [_SEA]),
    (PARSERS["llama3"], f"<|python_tag|>{SEA}; {SEA}", [_SEA, _SEA]),
    (PARSERS["llama3"], '{"place": "sea"}', ['{"place": "sea"}']),
    (PARSERS["llama3"], "<b>The sea.", ["<b>The sea."]),
    (PARSERS["mistral"], f"[TOOL_CALLS] [{SEA}, {SEA}]", [_SEA, _SEA]),
    (PARSERS["mistral"], f"[{SEA}]", [_SEA]),
    (PARSERS["mistral"], "[1, 2]", ["[1, 2]"]),
    (PARSERS["mistral"], "[{}]", ["[{}]"]),
    (whole_list, f"[{SEA}]", [_SEA]),
    (whole_list, f"[{SEA}", [f"[{SEA}"]),
    (one_function("look"), '{"place": "sea"}', [_SEA]),
    (one_function("look"), '{"place": "s', [("look", '{"place": "s')]),
)


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(("parser", "text", "found"), _TEXTS)
def test_calls_are_found_however_the_text_comes(parser: Any, text: str, found: list[Found], size: int) -> None:
    assert split(parser, text, size) == found


def test_text_before_a_call_is_not_held_back() -> None:
    splitter = PARSERS["hermes"]()
    assert list(splitter.feed("The sea is <")) == ["The sea is"]
    assert list(splitter.feed("b")) == [" <b"]


def test_the_model_is_told_of_functions() -> None:
    server = server_of("Hello.")
    assert chat(server, tools=[LOOK, WAIT]).json["choices"][0]["message"]["content"] == "Hello."
    assert json.loads(str(server.requests[0].parameters["tools"])) == [LOOK, WAIT]
    assert "json_schema" not in server.requests[0].parameters
    server = server_of(HERMES)
    assert chat(server, tools=[LOOK], tool_choice="none").json["choices"][0]["message"]["content"] == HERMES
    assert "tools" not in server.requests[0].parameters


@pytest.mark.parametrize("model", ["writer", "counter"])
def test_an_answer_that_calls(model: str) -> None:
    (choice,) = chat(server_of(f"Wait. {HERMES}{HERMES}"), model=model, tools=[LOOK]).json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Wait."
    calls = choice["message"]["tool_calls"]
    assert [(each["type"], each["function"]) for each in calls] == 2 * [
        ("function", {"name": "look", "arguments": '{"place": "sea"}'})
    ]
    assert len({each["id"] for each in calls}) == 2
    (choice,) = chat(server_of(HERMES, "length"), model=model, tools=[LOOK]).json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "length")


@pytest.mark.parametrize("model", ["writer", "counter"])
def test_calls_are_streamed(model: str) -> None:
    *chunks, done = chat(server_of(f"Wait. {HERMES}{HERMES}"), model=model, tools=[LOOK], stream=True).events
    assert done == "[DONE]"
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert "".join(each["delta"].get("content") or "" for each in choices) == "Wait."
    calls = [call for each in choices for call in each["delta"].get("tool_calls", ())]
    assert [call["index"] for call in calls] == [0, 1]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == 2 * [{"place": "sea"}]
    assert [each["finish_reason"] for each in choices if each["finish_reason"]] == ["tool_calls"]


def test_a_model_that_does_not_say_why_it_ended_may_call() -> None:
    (choice,) = chat(server_of(HERMES), model="plain", tools=[LOOK]).json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert [each["function"]["name"] for each in choice["message"]["tool_calls"]] == ["look"]


def test_a_call_may_be_required() -> None:
    server = server_of(f"[{SEA}]")
    (choice,) = chat(server, parser="", tools=[LOOK, WAIT], tool_choice="required").json["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    schema = json.loads(str(server.requests[0].parameters["json_schema"]))
    assert [each["properties"]["name"] for each in schema["items"]["anyOf"]] == [{"const": "look"}, {"const": "wait"}]
    place = schema["$defs"]["look"]["properties"]["place"]
    assert "maxItems" not in schema
    assert place == {"$ref": "#/$defs/look/$defs/Place"}, "the schema of a function is part of another one"


def test_one_call_alone_may_be_required() -> None:
    server = server_of(f"[{SEA}]")
    asked = {"tools": [LOOK], "tool_choice": "required", "parallel_tool_calls": False}
    assert chat(server, **asked).status == 200
    assert json.loads(str(server.requests[0].parameters["json_schema"]))["maxItems"] == 1


def test_a_function_may_be_named() -> None:
    server = server_of('{"place": "sea"}')
    (choice,) = chat(server, parser="", tools=[LOOK, WAIT], tool_choice=NAMED).json["choices"]
    assert choice["finish_reason"] == "stop", "who names the function knows that it is called"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "look", "arguments": '{"place": "sea"}'}
    assert json.loads(str(server.requests[0].parameters["json_schema"])) == LOOK["function"]["parameters"]


def test_a_model_says_how_it_writes_calls() -> None:
    server = server_of(f"[{SEA}]")
    config = server.models["writer"].config
    told = {**config.parameters, "tool_call_parser": "mistral"}
    server.models["writer"].config = msgspec.structs.replace(config, parameters=told)
    (choice,) = chat(server, parser="hermes", tools=[LOOK]).json["choices"]
    assert choice["message"]["tool_calls"]


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "json_object"}, {"type": "object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"b": 1, "a": 2}, "strict": True}},
            {"b": 1, "a": 2},
        ),
    ],
)
def test_the_form_of_an_answer_is_a_schema(form: dict[str, Any], schema: dict[str, Any]) -> None:
    server = server_of("{}")
    assert chat(server, response_format=form).status == 200
    assert server.requests[0].parameters["json_schema"] == json.dumps(schema)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [LOOK], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": [LOOK], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": {"function": {"name": "wait"}}}, "tool_choice"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a", "code": ""}}]}, "tools[0].function.code"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a", "strict": True}}]}, "tools[0].function.strict"),
        ({"tools": [LOOK], "response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"x": 1}}}, "response_format.json_schema.x"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
        ({"response_format": {"type": "json_object"}, "min_tokens": 2}, "min_tokens"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    server = TextServer()
    refused = chat(server, **fields)
    assert (refused.status, refused.json["error"]["param"]) == (400, param)
    assert not server.requests


def test_tools_of_a_model_that_writes_calls_nobody_knows_how_are_refused() -> None:
    refused = chat(TextServer(), parser="", tools=[LOOK])
    assert (refused.status, refused.json["error"]["param"]) == (400, "tools")
    assert "--openai-tool-call-parser (hermes, llama3, mistral)" in refused.json["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"tools": [LOOK]}, "tools"), ({"response_format": {"type": "json_object"}}, "response_format")],
)
def test_a_model_without_the_parameter_for_it_is_not_asked(fields: dict[str, Any], param: str) -> None:
    server = TextServer()
    config = server.models["writer"].config
    settings = {"request_parameters": "max_new_tokens:int"}
    server.models["writer"].config = msgspec.structs.replace(config, parameters=settings)
    refused = chat(server, **fields)
    assert (refused.status, refused.json["error"]["param"]) == (400, param)
