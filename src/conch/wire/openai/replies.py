"""Replies in OpenAI's form: whole answers, chunks of a stream as server-sent events, vectors, models."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from conch.wire.http.json_text import encode_json
from conch.wire.http.messages import head
from conch.wire.openai.texts import Piece, Usage
from conch.wire.openai.tool_calls import ToolCall

#: Status line and headers of a stream, without any that tells its length.
STREAM_HEAD = head(200, "text/event-stream; charset=utf-8", "Cache-Control: no-cache\r\n").removesuffix(
    b"Content-Length: "
)

#: The last event of a stream.
DONE = b"data: [DONE]\n\n"


class Form(msgspec.Struct, frozen=True):
    """What all parts of one answer have in common.

    Attributes:
        chat: whether it answers a conversation; else it continues a prompt.
        created: seconds since the epoch.
        with_usage: whether a stream ends with the tokens it took.
    """

    id: str
    model: str
    chat: bool
    created: int
    with_usage: bool = False

    def whole(self, piece: Piece) -> dict[str, Any]:
        """The answer as one document; without `usage` where the model does not count tokens."""
        said: dict[str, Any] = {"text": piece.text}
        if self.chat:
            calls = {"tool_calls": [_call(each) for each in piece.calls]} if piece.calls else {}
            content = None if calls and not piece.text else piece.text
            said = {"message": {"role": "assistant", "content": content, **calls}}
        usage = {} if piece.usage is None else {"usage": _usage(piece.usage)}
        choice = _choice(said, piece.finish_reason, self._logprobs(piece, 0))
        return {**self._document(stream=False, choices=[choice]), **usage}

    def opening(self) -> bytes:
        """What a stream begins with, before any text; b"" for nothing."""
        return self._chunk([_choice({"delta": {"role": "assistant", "content": ""}}, "")]) if self.chat else b""

    def piece(self, piece: Piece, offset: int = 0) -> bytes:
        """The events of a piece: its text, its calls, and why it ended where it did; b"" where it says none of them.

        Args:
            offset: how many characters came before it.
        """
        events = []
        if piece.text or piece.logprobs:
            events.append(_choice(self._said(piece.text), "", self._logprobs(piece, offset)))
        for call in piece.calls:
            events.append(_choice({"delta": {"tool_calls": [{"index": call.index, **_call(call)}]}}, ""))
        if piece.finish_reason:
            events.append(_choice(self._said(""), piece.finish_reason))
        return b"".join(self._chunk([each]) for each in events)

    def usage(self, usage: Usage) -> bytes:
        """The event that tells the tokens, the last before the end."""
        return self._chunk([], _usage(usage))

    def _logprobs(self, piece: Piece, offset: int) -> dict[str, Any] | None:
        if piece.logprobs is None:
            return None
        if self.chat:
            return {"content": piece.logprobs, "refusal": None}
        return _completion_logprobs(piece.logprobs, offset)

    def _said(self, text: str) -> dict[str, Any]:
        if not self.chat:
            return {"text": text}
        return {"delta": {"content": text} if text else {}}

    def _chunk(self, choices: Sequence[Mapping[str, Any]], usage: Mapping[str, int] | None = None) -> bytes:
        told = {"usage": usage} if self.with_usage else {}
        return event({**self._document(stream=True, choices=choices), **told})

    def _document(self, *, stream: bool, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        kind = f"chat.completion{'.chunk' if stream else ''}" if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def event(document: Mapping[str, Any]) -> bytes:
    """A document as a server-sent event."""
    return b"data: %b\n\n" % encode_json(document)


def _choice(said: Mapping[str, Any], finish_reason: str, logprobs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"index": 0, **said, "logprobs": logprobs, "finish_reason": finish_reason or None}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _completion_logprobs(entries: Sequence[Mapping[str, Any]], offset: int) -> dict[str, Any]:
    """Likelihoods as completions have them; the alternatives of a token hold itself."""
    offsets = []
    for entry in entries:
        offsets.append(offset)
        offset += len(entry["token"])
    return {
        "tokens": [entry["token"] for entry in entries],
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [
            {each["token"]: each["logprob"] for each in (*reversed(entry["top_logprobs"]), entry)} for entry in entries
        ],
        "text_offset": offsets,
    }


def _usage(usage: Usage) -> dict[str, int]:
    total = usage.prompt_tokens + usage.completion_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
    }


def embeddings(model: str, vectors: np.ndarray, *, as_base64: bool) -> dict[str, Any]:
    """The vectors [texts, dimensions] of FP32; base64 is of their little-endian bytes."""
    entries = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist(),
        }
        for index, vector in enumerate(vectors.astype("<f4", copy=False))
    ]
    return {"object": "list", "model": model, "data": entries}


def model(name: str, created: int) -> dict[str, Any]:
    """A model; `created` is when the server started."""
    return {"id": name, "object": "model", "created": created, "owned_by": "conch"}
