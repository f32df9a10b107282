"""HTTP requests and replies as values, and what the server may answer with: a reply now or later."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from conch.errors import ConchError
from conch.tensor.tensor import Buffer
from conch.wire.http.json_text import encode_json


class RequestHead:
    """A request but for its body. Clients repeat their heads byte by byte, so one object may stand for many requests.

    Attributes:
        method: as sent, e.g. b"POST".
        target: the request target as sent: path and query.
        headers: lower-case name -> value; the last of equal names.
        raw_headers: names and values as sent, in order; empty unless the app needs them.
        keep_alive: whether the connection may serve another request.
        is_http_1_0: whether the client speaks HTTP/1.0: it has to be told that the connection stays open, and does not
            know chunked bodies.
        body_bytes: the body's size, -1 where the head does not tell it.
        note: what the app made of the head alone, for the requests that come with it again; None at first.
    """

    __slots__ = ("body_bytes", "headers", "is_http_1_0", "keep_alive", "method", "note", "raw_headers", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: Mapping[bytes, bytes],
        raw_headers: Sequence[tuple[bytes, bytes]] = (),
        keep_alive: bool = True,
        is_http_1_0: bool = False,
        body_bytes: int = -1,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.raw_headers = raw_headers
        self.keep_alive = keep_alive
        self.is_http_1_0 = is_http_1_0
        self.body_bytes = body_bytes
        self.note: Any = None


class HttpRequest(msgspec.Struct, frozen=True, gc=False):
    """One complete request; `body` has no transfer coding any more, but may have a content coding."""

    head: RequestHead
    body: Buffer

    @property
    def method(self) -> bytes:
        """See `RequestHead`."""
        return self.head.method

    @property
    def target(self) -> bytes:
        """See `RequestHead`."""
        return self.head.target

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """See `RequestHead`."""
        return self.head.headers


class Reply(msgspec.Struct, frozen=True, gc=False):
    """One complete reply: everything up to the value of Content-Length, and the body in parts.

    Attributes:
        start: what is sent before the body to a client of HTTP/1.1 whose connection stays open, if that is known
            already: `head`, the length and the blank line.
    """

    head: bytes
    length: int
    parts: Sequence[Buffer]
    start: bytes = b""


class Streamed(msgspec.Struct, frozen=True):
    """A reply whose body comes piece by piece.

    Attributes:
        head: status line and headers, each ended by CRLF, without any that tells the length of the body.
        pieces: none of them empty; closed when the client goes away.
    """

    head: bytes
    pieces: AsyncGenerator[bytes, None]


class Pending(msgspec.Struct, frozen=True):
    """A reply that needs an awaitable first; cancelled when the client goes away.

    Attributes:
        recover: the reply when the awaitable or `finish` raises a ConchError; None leaves it to `HttpApp.failure`.
    """

    awaitable: Awaitable[Any]
    finish: Callable[[Any], Outcome]
    recover: Callable[[ConchError], Outcome] | None = None


Outcome = Reply | Pending | Streamed


def mapped(outcome: Outcome, change: Callable[[Reply], Reply]) -> Outcome:
    """The outcome with its reply changed, once it is there; what is streamed stays as it is."""
    if isinstance(outcome, Reply):
        return change(outcome)
    if isinstance(outcome, Streamed):
        return outcome
    return Pending(outcome.awaitable, lambda value: mapped(outcome.finish(value), change), outcome.recover)


class HttpApp(Protocol):
    """What answers the requests of a listener.

    Attributes:
        needs_raw_headers: whether `RequestHead.raw_headers` is to be filled.
    """

    needs_raw_headers: bool

    def dispatch(self, request: HttpRequest) -> Outcome:
        """Answer a request, or raise; called on the event loop."""
        ...

    def failure(self, error: BaseException) -> Reply:
        """The reply for an error that `dispatch` or a pending reply raised. Never raises."""
        ...


_REASONS: dict[int, str] = {status.value: status.phrase for status in HTTPStatus}


def head(status: int, content_type: str, extra: str = "") -> bytes:
    """Status line and headers up to the value of Content-Length; `extra` lines end in CRLF."""
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n{extra}Content-Length: ".encode()


_JSON_HEADS: dict[int, bytes] = {
    status: head(status, "application/json")
    for status in (200, 400, 401, 403, 404, 405, 408, 409, 431, 500, 501, 503, 507)
}
_EMPTY_HEADS: dict[tuple[int, str], bytes] = {
    (status, kind): head(status, kind) for status in (200, 400, 404) for kind in ("text/plain", "application/json")
}


def json_reply(value: object, status: int = 200) -> Reply:
    """A JSON document."""
    body = encode_json(value)
    return Reply(_JSON_HEADS[status], len(body), (body,))


def json_text_reply(body: bytes) -> Reply:
    """A JSON document that is encoded already, status 200."""
    return Reply(_JSON_HEADS[200], len(body), (body,))


def empty_reply(status: int = 200, content_type: str = "text/plain") -> Reply:
    """No body."""
    return Reply(_EMPTY_HEADS[status, content_type], 0, ())


def error_reply(status: int, message: str, extra: str = "") -> Reply:
    """`{"error": message}`; `extra` header lines end in CRLF."""
    body = encode_json({"error": message})
    return Reply(head(status, "application/json", extra) if extra else _JSON_HEADS[status], len(body), (body,))
