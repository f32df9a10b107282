"""One HTTP/2 stream: its two flow-control windows and what waits to be sent on it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from conch.tensor.tensor import Buffer
from conch.wire.grpc.http2.frames import ErrorCode

if TYPE_CHECKING:
    from conch.wire.grpc.http2.connection import Connection


class Receiver(Protocol):
    """What a stream delivers to; every method is called on the event loop and must not block."""

    def on_data(self, chunk: Buffer, end: bool) -> None:
        """Bytes arrived, or with `end` the client has nothing more to send (`chunk` may be empty then)."""
        ...

    def place(self, size: int) -> memoryview | None:
        """Where the next `size` bytes are to lie, for `on_placed` to be called once they do; None to get them by
        `on_data`."""
        ...

    def on_placed(self, size: int, end: bool) -> None:
        """Like `on_data`, for bytes that lie in their place already."""
        ...

    def on_reset(self) -> None:
        """The client gave the stream up or the connection is gone; nothing can be sent any more."""
        ...

    def on_writable(self) -> None:
        """Everything that waited for the client's window has been handed to the transport."""
        ...


class _Nobody:
    """Takes what a client still sends on a stream that has been answered."""

    def on_data(self, chunk: Buffer, end: bool) -> None: ...

    def place(self, size: int) -> memoryview | None:
        return None

    def on_placed(self, size: int, end: bool) -> None: ...

    def on_reset(self) -> None: ...

    def on_writable(self) -> None: ...


NOBODY = _Nobody()


class Stream:
    """A stream as its receiver sees it: reply, or send headers, data and trailers; grant windows; reset.

    Attributes:
        remote_closed: the client has sent its last byte.
        backlog: data waiting for the client's window, in order; `backlog_bytes` is its size.
        trailers: the header block that ends the stream once the backlog is gone.
    """

    __slots__ = (
        "backlog",
        "backlog_bytes",
        "connection",
        "id",
        "receive_window",
        "receiver",
        "remote_closed",
        "send_window",
        "trailers",
    )

    receiver: Receiver

    def __init__(self, connection: Connection[Any], stream_id: int, send_window: int, receive_window: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.remote_closed = False
        self.backlog: deque[memoryview] | None = None
        self.backlog_bytes = 0
        self.trailers: bytes | None = None

    def reply(self, head: bytes, parts: list[Buffer], size: int, trailers: bytes) -> None:
        """The whole answer: a header block, `size` bytes of data, and the header block that ends the stream."""
        self.connection.outbound.reply(self, head, parts, size, trailers)

    def send_headers(self, block: bytes) -> None:
        """The header block that starts the answer."""
        self.connection.outbound.send_headers(self, block)

    def send_data(self, parts: list[Buffer], size: int) -> None:
        """Data after the headers; what the client's window does not admit waits in the backlog."""
        self.connection.outbound.send_data(self, parts, size)

    def finish(self, trailers: bytes) -> None:
        """End the stream with this header block, after whatever still waits."""
        self.connection.outbound.finish(self, trailers)

    def reset(self, code: ErrorCode) -> None:
        """End the stream at once; the receiver is not called again."""
        self.connection.reset_stream(self, code)

    def replenish(self, needed: int) -> None:
        """Let the client send: at least `needed` more bytes, and never less than half the usual window."""
        initial = self.connection.limits.stream_window_bytes
        window = self.receive_window
        if needed > window or window < initial >> 1:
            target = max(needed, initial)
            self.connection.grant(self, target - window)
