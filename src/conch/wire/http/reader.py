"""The receiving half of a connection: bytes to complete requests, within limits."""

from __future__ import annotations

from typing import Protocol

import httptools
import msgspec

from conch.wire.http.compression import too_large
from conch.wire.http.messages import HttpRequest, Reply, error_reply


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


class RequestSink(Protocol):
    """Who answers what is read.

    Attributes:
        closing: the connection ends; nothing more need be read.
    """

    closing: bool

    def on_request(self, request: HttpRequest) -> None:
        """A request is complete."""
        ...

    def on_continue_expected(self) -> None:
        """The client waits for `100 Continue` before it sends the body."""
        ...

    def on_refusal(self, reply: Reply) -> None:
        """What came cannot be read on; `reply` says why. Called once, nothing is read afterwards."""
        ...


class RequestReader:
    """Reads the requests of one connection.

    Attributes:
        receiving: a request has begun and is not complete.
        head_done: its head is.
        started_at: when it began, on the clock of `feed`'s `now`.
    """

    def __init__(self, sink: RequestSink, limits: Limits, keeps_raw_headers: bool) -> None:
        self._sink = sink
        self._limits = limits
        self._keeps_raw_headers = keeps_raw_headers
        self._parser = httptools.HttpRequestParser(self)
        self.receiving = False
        self.head_done = False
        self.started_at = self._now = 0.0
        self._just_begun = False
        self._head_bytes = 0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._wire_bytes = 0
        self._body_remaining = 0  # of a body that bypasses the parser
        self._body_keep_alive = True
        self._refusal: Reply | None = None

    def feed(self, data: bytes, now: float) -> None:
        """Take what arrived."""
        self._now = now
        self._receive(data)

    def abandon(self) -> None:
        """Forget the request that is being received."""
        self.receiving = False
        self._chunks = []

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
        if data and not self._sink.closing:
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
        if self._refusal is None and self.receiving:
            self._check_progress(len(data))
        self._just_begun = False
        if self._refusal is not None:
            self._refuse(self._refusal)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 with what follows the head of a request that offered another protocol."""
        self._just_begun = False
        if self._refusal is None and self.receiving:  # the parser leaves the body to the other protocol
            if b"transfer-encoding" in self._headers:
                self._refusal = error_reply(400, "chunked request body with an Upgrade header; send it without")
            else:
                self._bypass_parser()
        else:
            self._parser = httptools.HttpRequestParser(self)
        if self._refusal is not None:
            self._refuse(self._refusal)
        else:
            self._receive(rest)

    def _refuse(self, reply: Reply) -> None:
        self.abandon()
        self._sink.on_refusal(reply)

    def _check_progress(self, size: int) -> None:
        """Bound a head or chunked body that came only in part; let the rest of a long body bypass the parser.

        The data in which a message began is not counted: it may be full of complete messages before it.
        """
        if not self.head_done:
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
        self.receiving = self._just_begun = True
        self.head_done = False
        self.started_at = self._now
        self._head_bytes = self._body_bytes = self._wire_bytes = 0
        self._target = b""
        self._headers = {}
        self._raw_headers = []
        self._chunks = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_done:  # later ones are trailers
            self._headers[name.lower()] = value
            if self._keeps_raw_headers:
                self._raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.head_done = True
        headers = self._headers
        length = headers.get(b"content-length")
        if length is not None and int(length) > self._limits.max_body_bytes:
            self._refuse_size(int(length))
        elif b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            self._sink.on_continue_expected()

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
        self.receiving = False
        if self._refusal is not None or self._sink.closing:
            return
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        parser = self._parser
        method = parser.get_method()
        if method == b"CONNECT":  # whatever follows is not for this server
            keep_alive = False
        self._sink.on_request(
            HttpRequest(
                method,
                self._target,
                self._headers,
                self._raw_headers,
                body,
                keep_alive,
                (not keep_alive or b"connection" in self._headers) and parser.get_http_version() == "1.0",
            )
        )
