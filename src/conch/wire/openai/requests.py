"""The bodies of requests: each field that OpenAI's clients may send, with its type; others are refused by name."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from conch.tensor.tensor import Buffer
from conch.wire.openai.errors import RefusedError

_PLACE = re.compile(r" - at `\$\.?(?P<path>.*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>.*?)`")
_MISSING = re.compile(r"^Object missing required field `(?P<field>.*?)`")


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`stream_options`."""

    include_usage: bool | None = None


class _TextRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What conversations and completions have in common; null is as if it was not there."""

    model: str
    frequency_penalty: float | None = None
    ignore_eos: bool | None = None
    logit_bias: dict[str, float] | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None


class ChatRequest(_TextRequest, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, Any]]
    logprobs: bool | None = None
    top_logprobs: int | None = None
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None


class CompletionRequest(_TextRequest, frozen=True, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | list[Any]
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    suffix: str | None = None


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/embeddings`."""

    model: str
    input: str | list[Any]
    encoding_format: str | None = None
    dimensions: int | None = None
    user: str | None = None


TextRequest = ChatRequest | CompletionRequest
_T = TypeVar("_T", bound=msgspec.Struct)


def decode(kind: type[_T], body: Buffer) -> _T:
    """The request in a body.

    Raises:
        RefusedError: it is no JSON object of such fields.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), kind) from error
    except msgspec.DecodeError as error:
        raise RefusedError("", f"the body is not JSON: {error}") from error


def _explained(text: str, kind: type[Any]) -> RefusedError:
    place = _PLACE.search(text)
    path = place["path"] if place else ""
    text = _PLACE.sub("", text)
    if unknown := _UNKNOWN.match(text):
        field = ".".join(filter(None, (path, unknown["field"])))
        known = "" if path else f"; those that are: {', '.join(kind.__struct_fields__)}"
        return RefusedError(field, f"'{field}' is not supported{known}")
    if missing := _MISSING.match(text):
        field = ".".join(filter(None, (path, missing["field"])))
        return RefusedError(field, f"'{field}' is missing")
    return RefusedError(path, f"'{path or 'the body'}' is wrong: {text}")
