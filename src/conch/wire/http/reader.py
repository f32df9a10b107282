"""The receiving half of a connection: bytes to complete requests, within limits."""

from __future__ import annotations

from typing import Protocol

import httptools
import msgspec

from conch.tensor.memory import Allocate
from conch.tensor.tensor import Buffer
from conch.wire.http.compression import too_large
from conch.wire.http.known_heads import MAX_HEAD_BYTES, KnownHeads
from conch.wire.http.messages import HttpRequest, Reply, RequestHead, error_reply
from conch.wire.placed_reader import PLACED_BYTES


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

    def place(self, target: memoryview) -> bool:
        """Read what comes next into `target` and call `RequestReader.placed` once it is full; False: not now."""
        ...


class RequestReader:
    """Reads the requests of one connection.

    A head that was seen before is found by its bytes, and its body cut off by its length; the parser sees neither.
    The rest of a large body with tensors is read where it is to lie.

    Attributes:
        receiving: a request has begun and is not complete.
        head_done: its head is.
        started_at: when it began, on the clock of `feed`'s `now`.
    """

    def __init__(
        self, sink: RequestSink, limits: Limits, keeps_raw_headers: bool, known: KnownHeads, allocate: Allocate
    ) -> None:
        self._sink = sink
        self._allocate = allocate
        self._limits = limits
        self._known = known
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
        self._chunks: list[Buffer] = []
        self._placed: memoryview | None = None  # a body whose rest is read into it
        self._body_bytes = 0
        self._wire_bytes = 0
        self._body_remaining = 0  # of a body that bypasses the parser
        self._head: RequestHead | None = None  # that of this body
        self._last_head: RequestHead | None = None  # what the parser read in the message it is at
        self._parser_waits = False  # for this body
        self._between = True  # nothing of a next message has come, and one may come
        self._begun = 0  # messages in what is being fed to the parser
        self._refusal: Reply | None = None

    def feed(self, data: bytes, now: float) -> None:
        """Take what arrived."""
        self._now = now
        while self._between and data and not self._sink.closing:
            rest = self._take_known(data)
            if rest is None:
                break
            data = rest
        if data:
            self._receive(data)
        if self._body_remaining >= PLACED_BYTES and self._placed is None:
            self._place()

    def placed(self) -> None:
        """What `place` of the sink was asked for is there."""
        body, self._placed = self._placed, None
        if body is not None:
            self._chunks = [body]
            self._end_body()

    def abandon(self) -> None:
        """Forget the request that is being received."""
        self.receiving = False
        self._chunks = []
        self._placed = None

    def _place(self) -> None:
        """Have the rest of a body read where it is to lie, if it is one of tensors."""
        head = self._head
        if (
            head is None
            or not self.receiving
            or not head.target.endswith(b"/infer")
            or b"content-encoding" in head.headers
        ):
            return
        body = self._allocate(head.body_bytes)
        filled = head.body_bytes - self._body_remaining
        if self._sink.place(body[filled:]):
            body[:filled] = b"".join(self._chunks)
            self._chunks = []
            self._placed = body

    def _take_known(self, data: bytes) -> bytes | None:
        """Take the message that begins with a head that is known; returns what follows it, None where there is none."""
        body_at = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES) + 4
        head = self._known.get(data[:body_at])
        if head is None:
            return None
        end = body_at + head.body_bytes
        size = len(data)
        if size == end:
            self._sink.on_request(HttpRequest(head, data[body_at:]))
            return b""
        if size > end:
            self._sink.on_request(HttpRequest(head, data[body_at:end]))
            return data[end:]
        self.receiving = self.head_done = True
        self.started_at = self._now
        self._between = False
        self._head = head
        self._chunks = [data[body_at:]] if size > body_at else []
        self._body_remaining = end - size
        return b""

    def _receive(self, data: bytes) -> None:
        if self._body_remaining:
            if len(data) < self._body_remaining:
                self._body_remaining -= len(data)
                self._chunks.append(data)
                return
            self._chunks.append(data if len(data) == self._body_remaining else data[: self._body_remaining])
            data = data[self._body_remaining :]
            self._end_body()
            self.feed(data, self._now)
        elif data and not self._sink.closing:
            self._feed(data)

    def _end_body(self) -> None:
        """A body that bypassed the parser is complete."""
        self._body_remaining = 0
        if self._parser_waits:
            self._parser = httptools.HttpRequestParser(self)
            self._parser_waits = False
        head, self._head = self._head, None
        assert head is not None
        self._complete(head)

    def _feed(self, data: bytes) -> None:
        self._begun = 0
        began_between = self._between
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
        elif began_between and self._begun == 1 and self._last_head is not None:
            self._known.learn(data[: data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES) + 4], self._last_head)

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
        self._head = self._read_head()
        self._parser_waits = True
        self._body_remaining = self._head.body_bytes - self._body_bytes

    # httptools callbacks: they must not raise

    def on_message_begin(self) -> None:
        self.receiving = self._just_begun = True
        self.head_done = self._between = False
        self._last_head = None
        self._begun += 1
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
        self._complete(self._read_head())

    def _announces_body(self) -> bool:
        return b"transfer-encoding" in self._headers or self._headers.get(b"content-length", b"0").strip(b"0") != b""

    def _refuse_size(self, size: int) -> None:
        if self._refusal is None:
            what = "Request body" if b"inference-header-content-length" in self._headers else "Request JSON"
            self._refusal = error_reply(400, too_large(what, size, self._limits.max_body_bytes).message)

    def _read_head(self) -> RequestHead:
        """The head of the message that the parser is at."""
        parser, headers = self._parser, self._headers
        method = parser.get_method()
        # Whatever follows CONNECT is not for this server.
        keep_alive = parser.should_keep_alive() and method != b"CONNECT"
        length = headers.get(b"content-length")
        head = self._last_head = RequestHead(
            method,
            self._target,
            headers,
            self._raw_headers,
            keep_alive,
            (not keep_alive or b"connection" in headers) and parser.get_http_version() == "1.0",
            -1 if length is None else int(length),
        )
        return head

    def _complete(self, head: RequestHead) -> None:
        self.receiving = False
        if self._refusal is not None or self._sink.closing:
            return
        self._between = head.keep_alive
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._sink.on_request(HttpRequest(head, body))
