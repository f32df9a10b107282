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
        said = {"message": {"role": "assistant", "content": piece.text}} if self.chat else {"text": piece.text}
        usage = {} if piece.usage is None else {"usage": _usage(piece.usage)}
        return {**self._document(stream=False, choices=[_choice(said, piece.finish_reason)]), **usage}

    def opening(self) -> bytes:
        """What a stream begins with, before any text; b"" for nothing."""
        return self._chunk([_choice({"delta": {"role": "assistant", "content": ""}}, "")]) if self.chat else b""

    def piece(self, piece: Piece) -> bytes:
        """The events of a piece: its text, and why it ended where it did; b"" where it says neither."""
        events = self._chunk([_choice(self._said(piece.text), "")]) if piece.text else b""
        return events + (self._chunk([_choice(self._said(""), piece.finish_reason)]) if piece.finish_reason else b"")

    def usage(self, usage: Usage) -> bytes:
        """The event that tells the tokens, the last before the end."""
        return self._chunk([], _usage(usage))

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


def _choice(said: Mapping[str, Any], finish_reason: str) -> dict[str, Any]:
    return {"index": 0, **said, "logprobs": None, "finish_reason": finish_reason or None}


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
