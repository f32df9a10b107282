"""One HTTP/1.x connection: bytes to requests, replies to bytes, strictly in order and within limits."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol, cast

import httptools
import msgspec

from conch.core.queue import RequestFuture
from conch.errors import CancelledError
from conch.wire.http.compression import too_large
from conch.wire.http.messages import HttpApp, HttpRequest, Outcome, Pending, Reply, error_reply

#: A reply up to this size leaves as one buffer; larger bodies are handed to the transport part by part, uncopied.
_JOIN_BYTES = 1 << 16

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_END = b"\r\n\r\n"
_CLOSE_END = b"\r\nConnection: close\r\n\r\n"
_KEEP_ALIVE_END = b"\r\nConnection: keep-alive\r\n\r\n"


class Limits(msgspec.Struct, frozen=True):
    """What one connection may take.

    Attributes:
        max_body_bytes: largest request body, before and after decompression.
        max_head_bytes: largest request line with headers.
        request_timeout_s: how long a started request may stay without progress, and its head in all.
        idle_timeout_s: how long a connection may rest between requests, or a reply go unread.
        linger_s: how long an abandoned upload is still read so that the client sees the error reply.
    """

    max_body_bytes: int = 64 << 20
    max_head_bytes: int = 64 << 10
    request_timeout_s: float = 60.0
    idle_timeout_s: float = 600.0
    linger_s: float = 30.0


class ConnectionOwner(Protocol):
    """Who keeps track of a connection."""

    app: HttpApp
    limits: Limits
    loop: asyncio.AbstractEventLoop

    def opened(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """The server's end of a connection.

    Requests are answered one at a time; those a client pipelines wait, and nothing more is read while they do.
    """

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._app = owner.app
        self._keeps_raw_headers = owner.app.needs_raw_headers
        self._limits = owner.limits
        self._loop = owner.loop
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpRequestParser(self)
        # The message being received.
        self._receiving = False
        self._just_begun = False
        self._head_done = False
        self._head_bytes = 0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._wire_bytes = 0
        self._body_remaining = 0  # of a body that bypasses the parser
        self._body_keep_alive = True
        # The messages being answered.
        self._waiting: deque[HttpRequest] = deque()
        self._current: HttpRequest | None = None
        self._pending: Pending | None = None
        self._future: asyncio.Future[Any] | None = None
        self._advancing = False
        self._continue_due = False
        self._refusal: Reply | None = None
        # The connection's own state.
        self._refused = False
        self._draining = False
        self._closing = False
        self._write_paused = False
        self._started_at = self._progress_at = self._loop.time()
        self._unsent_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._waiting.clear()
        if self._future is not None:
            self._future.cancel()
        self._owner.closed(self)

    def data_received(self, data: bytes) -> None:
        self._progress_at = self._loop.time()
        if not self._refused and not self._closing:
            self._receive(data)

    def eof_received(self) -> None:
        return None  # the transport closes itself

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._advance()

    # Receiving

    def _receive(self, data: bytes) -> None:
        if self._body_remaining:
            if len(data) < self._body_remaining:
                self._body_remaining -= len(data)
                self._chunks.append(data)
                return
            self._chunks.append(data[: self._body_remaining])
            data = data[self._body_remaining :]
            self._body_remaining = 0
            self._complete(self._body_keep_alive)
            self._parser = httptools.HttpRequestParser(self)  # the old one still waits for this body
        if data and not self._closing:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            if self._refusal is None:
                self._refusal = error_reply(400, f"malformed HTTP request: {error}")
        if self._refusal is None and self._receiving:
            self._check_progress(len(data))
        self._just_begun = False
        if self._refusal is not None and not self._refused:
            self._refuse()

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 with what follows the head of a request that offered another protocol."""
        self._just_begun = False
        if self._refusal is None and self._receiving:  # the parser leaves the body to the other protocol
            if b"transfer-encoding" in self._headers:
                self._refusal = error_reply(400, "chunked request body with an Upgrade header; send it without")
            else:
                self._bypass_parser()
        else:
            self._parser = httptools.HttpRequestParser(self)
        if self._refusal is not None:
            self._refuse()
        else:
            self._receive(rest)

    def _check_progress(self, size: int) -> None:
        """Bound a head or chunked body that came only in part; let the rest of a long body bypass the parser.

        The data in which a message began is not counted: it may be full of complete messages before it.
        """
        if not self._head_done:
            self._head_bytes += 0 if self._just_begun else size
            if self._head_bytes > self._limits.max_head_bytes:
                self._refusal = error_reply(431, f"request head exceeds {self._limits.max_head_bytes} bytes")
        elif b"content-length" in self._headers:
            self._bypass_parser()
        else:
            self._wire_bytes += 0 if self._just_begun else size  # framing and trailers count, too
            if self._wire_bytes > 8 * self._limits.max_body_bytes + self._limits.max_head_bytes:
                self._refusal = error_reply(400, "chunked request body has far more framing than data")

    def _bypass_parser(self) -> None:
        self._body_remaining = int(self._headers[b"content-length"]) - self._body_bytes
        self._body_keep_alive = self._parser.should_keep_alive()

    # httptools callbacks: they must not raise

    def on_message_begin(self) -> None:
        self._receiving = self._just_begun = True
        self._head_done = False
        self._started_at = self._progress_at
        self._head_bytes = self._body_bytes = self._wire_bytes = 0
        self._target = b""
        self._headers = {}
        self._raw_headers = []
        self._chunks = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # later ones are trailers
            self._headers[name.lower()] = value
            if self._keeps_raw_headers:
                self._raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_done = True
        headers = self._headers
        length = headers.get(b"content-length")
        if length is not None and int(length) > self._limits.max_body_bytes:
            self._refuse_size(int(length))
        elif b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            if self._current is None and not self._waiting:
                self._transport.write(_CONTINUE)
            else:
                self._continue_due = True

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            self._refuse_size(self._body_bytes)
        else:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        if b"upgrade" in self._headers and self._parser.should_upgrade() and self._announces_body():
            return  # its body follows: `_decline_upgrade` goes on
        self._complete(self._parser.should_keep_alive())

    def _announces_body(self) -> bool:
        return b"transfer-encoding" in self._headers or self._headers.get(b"content-length", b"0").strip(b"0") != b""

    def _refuse_size(self, size: int) -> None:
        if self._refusal is None:
            what = "Request body" if b"inference-header-content-length" in self._headers else "Request JSON"
            self._refusal = error_reply(400, too_large(what, size, self._limits.max_body_bytes).message)

    def _complete(self, keep_alive: bool) -> None:
        self._receiving = False
        self._continue_due = False
        if self._refusal is not None or self._closing:
            return
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        parser = self._parser
        method = parser.get_method()
        if method == b"CONNECT":  # whatever follows is not for this server
            keep_alive = False
        request = HttpRequest(
            method,
            self._target,
            self._headers,
            self._raw_headers,
            body,
            keep_alive,
            keep_alive and b"connection" in self._headers and parser.get_http_version() == "1.0",
        )
        if self._current is None and not self._waiting and not self._write_paused:
            self._start(request)
        else:
            if not self._waiting and not self._transport.is_closing():
                self._transport.pause_reading()
            self._waiting.append(request)

    # Answering

    def _start(self, request: HttpRequest) -> None:
        self._current = request
        try:
            outcome = self._app.dispatch(request)
        except Exception as error:
            outcome = self._app.failure(error)
        self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        if isinstance(outcome, Reply):
            self._finish(outcome)
            return
        self._pending = outcome
        awaitable = outcome.awaitable
        if type(awaitable) is RequestFuture and not awaitable.done():
            self._future = awaitable
            awaitable.on_settled = self._awaited
            return
        self._future = asyncio.ensure_future(awaitable)
        if self._future.done():
            self._awaited(self._future)
        else:
            self._future.add_done_callback(self._awaited)

    def _awaited(self, future: asyncio.Future[Any]) -> None:
        pending, self._pending, self._future = self._pending, None, None
        outcome: Outcome
        try:
            value = future.result()
            if self._closing or pending is None:
                return
            outcome = pending.finish(value)
        except asyncio.CancelledError:
            outcome = self._app.failure(CancelledError("request was cancelled"))
        except Exception as error:
            outcome = self._app.failure(error)
        if not self._closing:
            self._settle(outcome)

    def _finish(self, reply: Reply) -> None:
        request = self._current
        assert request is not None
        self._current = None
        keep_alive = request.keep_alive and not self._draining
        self._write(reply, keep_alive, request)
        self._progress_at = self._loop.time()
        if not keep_alive:
            self._close()
        elif self._waiting or self._continue_due or self._refusal is not None:
            self._advance()

    def _advance(self) -> None:
        """Go on with what had to wait for a reply."""
        if self._advancing:  # replies that need no awaiting come back here from inside the loop
            return
        self._advancing = True
        while self._waiting and self._current is None and not self._write_paused and not self._closing:
            request = self._waiting.popleft()
            if not self._waiting and not self._transport.is_closing():
                self._transport.resume_reading()
            self._start(request)
        self._advancing = False
        if self._current is not None or self._waiting or self._closing:
            return
        if self._refusal is not None:
            self._write_refusal()
        elif self._continue_due:
            self._continue_due = False
            self._transport.write(_CONTINUE)

    def _write(self, reply: Reply, keep_alive: bool, request: HttpRequest | None) -> None:
        if not keep_alive:
            end = _CLOSE_END
        elif request is not None and request.is_http_1_0:
            end = _KEEP_ALIVE_END
        else:
            end = _END
        start = reply.head + str(reply.length).encode() + end
        parts = () if request is not None and request.method == b"HEAD" else reply.parts
        if reply.length <= _JOIN_BYTES:
            self._transport.write(b"".join((start, *parts)))
            return
        self._transport.write(start)
        for part in parts:
            self._transport.write(part)

    def _refuse(self) -> None:
        """Stop reading requests; answer the refusal after the requests before it, then close."""
        self._refused = True
        self._receiving = False
        self._chunks = []
        if self._current is None and not self._waiting:
            self._write_refusal()

    def _write_refusal(self) -> None:
        assert self._refusal is not None
        self._write(self._refusal, keep_alive=False, request=None)
        self._refusal = None
        self._refused = True
        # The client may still be sending. Closing now would reset the connection and lose the reply on its side, so
        # only this direction ends; what it sends is read and dropped until it closes or `linger_s` is over.
        self._started_at = self._loop.time()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        self._closing = True
        self._transport.close()

    # Called by the owner

    def drain(self) -> None:
        """Close as soon as nothing is being received or answered."""
        self._draining = True
        if self._current is None and not self._waiting and not self._receiving and not self._closing:
            self._close()

    def abort(self) -> None:
        """Close now, cancelling what is being answered."""
        self._closing = True
        self._transport.abort()

    def sweep(self, now: float) -> None:
        """End the connection if it is over one of the timeouts; called now and then."""
        limits = self._limits
        quiet = now - self._progress_at
        if self._refused and self._current is None:
            if now - self._started_at > limits.linger_s or quiet > limits.linger_s / 4:
                self.abort()
        elif self._transport.get_write_buffer_size():
            unsent = self._transport.get_write_buffer_size()
            if unsent != self._unsent_bytes:
                self._unsent_bytes = unsent
                self._progress_at = now
            elif quiet > limits.idle_timeout_s:
                self.abort()
        elif self._receiving:
            head_late = not self._head_done and now - self._started_at > limits.request_timeout_s
            if head_late or quiet > limits.request_timeout_s:
                self._refusal = error_reply(
                    408, f"request was not completed within {limits.request_timeout_s:g} seconds; send it again"
                )
                self._refuse()
        elif self._current is None and quiet > limits.idle_timeout_s:
            self._close()
