"""The client's end of HTTP/1.1 keep-alive: requests are bytes made beforehand, answers are parsed by httptools."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import httptools

from conch.bench.channel import Answer, Done

_HEAD_LENGTH = b"inference-header-content-length"


class HttpConnection(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._done: Done | None = None
        self._chunks: list[bytes] = []
        self._head_bytes = -1

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and self._done is None

    def send(self, request: bytes, done: Done) -> None:
        assert self._transport is not None
        self._done = done
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._lose("the connection was closed")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._transport is not None:
                self._transport.abort()
            self._lose(f"the answer is not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lose(f"the server closed the connection{f': {exc}' if exc else ''}")

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._chunks = []
        self._head_bytes = -1

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == len(_HEAD_LENGTH) and name.lower() == _HEAD_LENGTH:
            self._head_bytes = int(value)

    def on_body(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        parser, done, self._done = self._parser, self._done, None
        assert parser is not None
        status = parser.get_status_code()
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        if not parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        if done is not None:
            done(Answer("" if status == 200 else _error(status, body), body, self._head_bytes))

    def _lose(self, reason: str) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(Answer(reason, lost=True))


def _error(status: int, body: bytes) -> str:
    try:
        text = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode(errors="replace")
    return f"{status}: {text}"
