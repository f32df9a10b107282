"""What a model is to continue: a prompt, or a conversation as the JSON that its chat template is made for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from conch.wire.openai.errors import RefusedError

#: Roles of messages -> what chat templates call them.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_FIELDS = frozenset({"role", "content", "name"})
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


def _message(place: str, message: Mapping[str, Any]) -> dict[str, str]:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        offered = ", ".join(_ROLES)
        raise RefusedError(f"{place}.role", f"'{place}.role' must be one of {offered}, got {json.dumps(role)}")
    for field in message:
        if field not in _FIELDS and message[field] is not None:
            raise RefusedError(
                f"{place}.{field}", f"'{place}.{field}' is not supported: a message has role, content and name"
            )
    name = message.get("name")
    if name is not None and not isinstance(name, str):
        raise RefusedError(f"{place}.name", f"'{place}.name' must be a text")
    named = {} if name is None else {"name": name}
    return {"role": _ROLES[role], **named, "content": _content(f"{place}.content", message.get("content"))}


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
