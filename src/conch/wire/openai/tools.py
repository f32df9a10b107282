"""Functions that a model may call: what a request offers, what the model is told of it, and the form of its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from conch.config.schema import ModelConfig
from conch.inference import Parameter
from conch.wire.openai.errors import RefusedError
from conch.wire.openai.requests import ChatRequest
from conch.wire.openai.tool_calls import PARSERS, Splitter, one_function, whole_list

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIELDS = frozenset({"name", "description", "parameters", "strict"})
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}

#: The model's setting that says how it writes calls.
PARSER_SETTING = "tool_call_parser"


class Calling(msgspec.Struct, frozen=True):
    """How an answer may call functions.

    Attributes:
        parameters: request parameters for the model.
        splitter: makes what takes calls out of the text.
        named: the request names the function, so that calling it is no reason to end.
    """

    parameters: Mapping[str, Parameter]
    splitter: type[Splitter] | Any
    named: bool = False


def calling_of(request: ChatRequest, config: ModelConfig, default_parser: str) -> Calling | None:
    """What a request offers; None where no function may be called.

    Args:
        default_parser: how models write calls that do not say it themselves; "" for unknown.

    Raises:
        RefusedError: a tool is wrong, or the choice cannot be honoured.
    """
    choice = request.tool_choice
    if not request.tools:
        if choice not in (None, "none", "auto"):
            raise RefusedError("tool_choice", "'tool_choice' needs 'tools'")
        return None
    functions = [_function(f"tools[{index}]", tool) for index, tool in enumerate(request.tools)]
    named = _named(choice, functions)
    if choice == "none":
        return None
    shown = [{"type": "function", "function": _without(function, "strict")} for function in functions]
    parameters: dict[str, Parameter] = {"tools": json.dumps(shown, ensure_ascii=False)}
    if named is not None:
        schema = named.get("parameters") or _NO_ARGUMENTS
        parameters["json_schema"] = json.dumps(schema, ensure_ascii=False)
        return Calling(parameters, one_function(named["name"]), named=True)
    if choice == "required":
        parameters["json_schema"] = json.dumps(
            list_schema(functions, one=request.parallel_tool_calls is False), ensure_ascii=False
        )
        return Calling(parameters, whole_list)
    if request.parallel_tool_calls is False:
        raise RefusedError(
            "parallel_tool_calls",
            "'parallel_tool_calls' may be false where 'tool_choice' is required or names a function",
        )
    for index, function in enumerate(functions):
        if function.get("strict"):
            raise RefusedError(
                f"tools[{index}].function.strict",
                f"'tools[{index}].function.strict' is supported where 'tool_choice' is required or names a function",
            )
    parser = config.parameters.get(PARSER_SETTING) or default_parser
    if parser not in PARSERS:
        known = ", ".join(sorted(PARSERS))
        raise RefusedError(
            "tools",
            f"'tools' is not supported by model '{config.name}', which does not say how it writes calls: give it the "
            f"setting {PARSER_SETTING}, or the server --openai-tool-call-parser ({known}), or send a 'tool_choice' of "
            "required",
        )
    return Calling(parameters, PARSERS[parser])


def list_schema(functions: Sequence[Mapping[str, Any]], *, one: bool = False) -> dict[str, Any]:
    """The schema of a list of calls, one or more, or one alone."""
    own = {each["name"]: each.get("parameters") or _NO_ARGUMENTS for each in functions}
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/{name}"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name in own
    ]
    defined = {name: _moved(schema, f"#/$defs/{name}") for name, schema in own.items()}
    size = {"minItems": 1, "maxItems": 1} if one else {"minItems": 1}
    return {"type": "array", **size, "items": {"anyOf": calls}, "$defs": defined}


def _moved(value: Any, root: str) -> Any:
    """A schema that is part of another one, at `root`."""
    if isinstance(value, list):
        return [_moved(each, root) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: root + each[1:] if key == "$ref" and isinstance(each, str) and each.startswith("#") else _moved(each, root)
        for key, each in value.items()
    }


def _named(choice: object, functions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The function that `tool_choice` names; None for a word."""
    if choice in (None, "none", "auto", "required"):
        return None
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise RefusedError(
            "tool_choice",
            '\'tool_choice\' must be none, auto, required or {"type": "function", "function": {"name": ...}}',
        )
    for each in functions:
        if each["name"] == name:
            return each
    raise RefusedError("tool_choice", f"'tool_choice' names the function '{name}', which is not among 'tools'")


def _function(place: str, tool: Any) -> Mapping[str, Any]:
    """The function of a tool, checked."""
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise RefusedError(f"{place}.type", f"'{place}.type' must be \"function\": functions are the tools there are")
    function = tool.get("function")
    if not isinstance(function, dict) or tool.keys() - {"type", "function"}:
        raise RefusedError(place, f"'{place}' must hold a type and a function")
    for field in function:
        if field not in _FIELDS:
            raise RefusedError(f"{place}.function.{field}", f"'{place}.function.{field}' is not supported")
    kinds = (("name", str), ("description", str | None), ("parameters", dict | None), ("strict", bool | None))
    for field, kind in kinds:
        if not isinstance(function.get(field), kind):
            raise RefusedError(f"{place}.function.{field}", f"'{place}.function.{field}' is missing or of a wrong type")
    if not _NAME.fullmatch(function["name"]):
        raise RefusedError(
            f"{place}.function.name",
            f"'{place}.function.name' must be up to 64 letters, digits, '_' and '-', got '{function['name']}'",
        )
    return {key: value for key, value in function.items() if value is not None}


def _without(function: Mapping[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in function.items() if key != field}
