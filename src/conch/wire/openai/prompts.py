"""What a model is to continue: a prompt, or a conversation as the JSON that its chat template is made for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from conch.wire.openai.errors import RefusedError

#: Roles of messages -> what chat templates call them.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_FIELDS = frozenset({"role", "content", "name"})
#: Further fields of messages, by their role.
_FURTHER = {"assistant": frozenset({"tool_calls"}), "tool": frozenset({"tool_call_id"})}
_SINGLE = "send a request for each"


def one_prompt(prompt: str | Sequence[Any]) -> str:
    """The text of `prompt`.

    Raises:
        RefusedError: it is not one text.
    """
    if isinstance(prompt, str):
        return prompt
    if len(prompt) != 1:
        raise RefusedError("prompt", f"'prompt' must be one text, got {len(prompt)}: {_SINGLE}")
    if not isinstance(prompt[0], str):
        raise RefusedError("prompt", "'prompt' must be a text: numbers of tokens are not supported")
    return prompt[0]


def texts_to_embed(given: str | Sequence[Any]) -> Sequence[str]:
    """The texts of `input`.

    Raises:
        RefusedError: it holds none, or something else.
    """
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise RefusedError("input", "'input' must hold at least one text")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise RefusedError("input", f"'input[{index}]' must be a text: numbers of tokens are not supported")
    return texts


def conversation(messages: Sequence[Mapping[str, Any]]) -> str:
    """The messages as the JSON of a model's input `messages`.

    Raises:
        RefusedError: there is none, or one that is no text.
    """
    if not messages:
        raise RefusedError("messages", "'messages' must hold at least one message")
    return json.dumps([_message(f"messages[{i}]", each) for i, each in enumerate(messages)], ensure_ascii=False)


def _message(place: str, message: Mapping[str, Any]) -> dict[str, Any]:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        offered = ", ".join(_ROLES)
        raise RefusedError(f"{place}.role", f"'{place}.role' must be one of {offered}, got {json.dumps(role)}")
    known = _FIELDS | _FURTHER.get(role, frozenset())
    for field in message:
        if field not in known and message[field] is not None:
            raise RefusedError(
                f"{place}.{field}",
                f"'{place}.{field}' is not supported: a message of the role {role} has {', '.join(sorted(known))}",
            )
    name = message.get("name")
    if name is not None and not isinstance(name, str):
        raise RefusedError(f"{place}.name", f"'{place}.name' must be a text")
    made: dict[str, Any] = {"role": _ROLES[role]}
    if name is not None:
        made["name"] = name
    calls = message.get("tool_calls")
    # Who only calls says nothing; templates want a text all the same.
    content = "" if calls and message.get("content") is None else message.get("content")
    made["content"] = _content(f"{place}.content", content)
    if calls:
        made["tool_calls"] = _calls(f"{place}.tool_calls", calls)
    if role == "tool":
        identity = message.get("tool_call_id")
        if not isinstance(identity, str):
            raise RefusedError(f"{place}.tool_call_id", f"'{place}.tool_call_id' must be a text")
        made["tool_call_id"] = identity
    return made


def _calls(place: str, calls: object) -> list[dict[str, Any]]:
    """Calls that the model made before, with their arguments as objects, which templates are made for."""
    if not isinstance(calls, list):
        raise RefusedError(place, f"'{place}' must be a list")
    return [_call(f"{place}[{index}]", call) for index, call in enumerate(calls)]


def _call(place: str, call: object) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or call.get("type", "function") != "function":
        raise RefusedError(place, f"'{place}' must be a call of a function")
    for field, value in (("id", call.get("id")), ("function.name", function.get("name"))):
        if not isinstance(value, str):
            raise RefusedError(f"{place}.{field}", f"'{place}.{field}' must be a text")
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (TypeError, ValueError) as error:
        raise RefusedError(
            f"{place}.function.arguments", f"'{place}.function.arguments' must be JSON as text: {error}"
        ) from error
    if not isinstance(arguments, dict):
        raise RefusedError(f"{place}.function.arguments", f"'{place}.function.arguments' must be a JSON object")
    return {"id": call["id"], "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _content(place: str, content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RefusedError(place, f"'{place}' must be a text or a list of parts of the type text")
    return "".join(_part(f"{place}[{index}]", part) for index, part in enumerate(content))


def _part(place: str, part: object) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != "text":
        raise RefusedError(
            f"{place}.type", f"'{place}.type' must be \"text\", got {json.dumps(kind)}: text alone is read"
        )
    assert isinstance(part, dict)
    text = part.get("text")
    if not isinstance(text, str):
        raise RefusedError(f"{place}.text", f"'{place}.text' must be a text")
    return text
