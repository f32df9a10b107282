"""The client's end of a gRPC connection: HTTP/2 by hand, since grpcio's clients are slower than the servers measured.

One method a connection: its header block is encoded twice and is the same bytes from then on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast
from urllib.parse import unquote

from hpack import Encoder

from conch.bench.channel import Answer, Done
from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.frames import ConnectionFault, StreamFault
from conch.wire.grpc.http2.hpack_cache import Headers, HpackCache

_PREFIX_BYTES = 5
_MAX_HEADER_LIST_BYTES = 1 << 20
_REFILL_BYTES = 1 << 30
_WINDOW_BYTES = frames.MAX_WINDOW
_NAMES = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    8: "RESOURCE_EXHAUSTED",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
}

#: `grpc-status` and `grpc-message` of a header block; -1 where it has none.
_Status = tuple[int, str]


class _Stream:
    """A call in flight."""

    __slots__ = ("chunks", "done", "ended", "status", "window")

    def __init__(self, done: Done, window: int) -> None:
        self.done = done
        self.window = window
        self.chunks: list[bytes] = []
        self.ended = False
        self.status: _Status = (-1, "")


class GrpcConnection(asyncio.Protocol):
    """One connection for unary calls of one method; requests are gRPC messages with their prefix.

    Args:
        path: the method, "/service/method".
        authority: host and port.
    """

    def __init__(self, path: str, authority: str) -> None:
        self._encoder = Encoder()
        self._headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "conch-bench"),
        ]
        self._blocks_sent = 0
        self._block = b""
        self._decoder: HpackCache[_Status] = HpackCache(_status, _MAX_HEADER_LIST_BYTES)
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, _Stream] = {}
        self._backlog: deque[tuple[int, memoryview]] = deque()
        self._next_id = 1
        self._window = self._initial_window = frames.DEFAULT_WINDOW
        self._max_frame = frames.MIN_MAX_FRAME_SIZE
        self._received = 0
        self._buffer = b""
        self._fragments: list[bytes] = []
        self._leaving = False

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._leaving and not self._transport.is_closing()

    def send(self, request: bytes, done: Done) -> None:
        assert self._transport is not None
        stream_id, self._next_id = self._next_id, self._next_id + 2
        stream = self._streams[stream_id] = _Stream(done, self._initial_window)
        head = self._header_frame(stream_id)
        size = len(request)
        if not self._backlog and size <= min(self._window, stream.window, self._max_frame):
            self._window -= size
            self._transport.write(head + frames.encode_frame(frames.DATA, frames.END_STREAM, stream_id, request))
            return
        self._transport.write(head)
        self._backlog.append((stream_id, memoryview(request)))
        self._pump()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._lose("the connection was closed")

    def _header_frame(self, stream_id: int) -> bytes:
        if self._blocks_sent < 2:  # the first fills HPACK's table, the second refers to it
            self._block = bytes(self._encoder.encode(self._headers))
            self._blocks_sent += 1
        return frames.encode_header_block(stream_id, self._block, False, self._max_frame)

    def _pump(self) -> None:
        """Send of the backlog what the windows allow."""
        assert self._transport is not None
        while self._backlog:
            stream_id, rest = self._backlog[0]
            stream = self._streams.get(stream_id)
            if stream is None:  # the server gave the call up
                self._backlog.popleft()
                continue
            size = min(len(rest), self._window, stream.window, self._max_frame)
            if size <= 0:
                return
            self._window -= size
            stream.window -= size
            last = size == len(rest)
            flags = frames.END_STREAM if last else 0
            self._transport.write(frames.HEADER.pack(size << 8, flags, stream_id))
            self._transport.write(bytes(rest[:size]))
            if last:
                self._backlog.popleft()
            else:
                self._backlog[0] = (stream_id, rest[size:])

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        settings = {frames.SETTINGS_ENABLE_PUSH: 0, frames.SETTINGS_INITIAL_WINDOW_SIZE: _WINDOW_BYTES}
        grow = frames.encode_window_update(0, _WINDOW_BYTES - frames.DEFAULT_WINDOW)
        self._transport.write(frames.PREFACE + frames.encode_settings(settings) + grow)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        position, size = 0, len(buffer)
        try:
            while size - position >= frames.HEADER_BYTES:
                head, flags, stream_id = frames.HEADER.unpack_from(buffer, position)
                start = position + frames.HEADER_BYTES
                end = start + (head >> 8)
                if end > size:
                    break
                self._on_frame(head & 0xFF, flags, stream_id & frames.MAX_STREAM_ID, buffer[start:end])
                position = end
        except (ConnectionFault, StreamFault) as fault:
            self._lose(f"the answer is not HTTP/2: {fault}")
            if self._transport is not None:
                self._transport.abort()
        self._buffer = buffer[position:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lose(f"the server closed the connection{f': {exc}' if exc else ''}")

    # Frames.

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.DATA:
            self._on_data(flags, stream_id, payload)
        elif kind in (frames.HEADERS, frames.CONTINUATION):
            self._on_headers(kind, flags, stream_id, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._on_window(stream_id, payload)
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._on_settings(payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self._write(frames.encode_ping(payload, True))
        elif kind == frames.RST_STREAM:
            self._end(stream_id, Answer(f"the server reset the call (HTTP/2 error {int.from_bytes(payload)})"))
        elif kind == frames.GOAWAY:
            self._leaving = True  # what is in flight is still answered

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received >= _REFILL_BYTES:
            self._write(frames.encode_window_update(0, self._received))
            self._received = 0
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.chunks.append(bytes(frames.strip_padding(payload, flags)))
            if flags & frames.END_STREAM:
                self._finish(stream_id, stream)

    def _on_headers(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.HEADERS:
            self._fragments = [frames.header_fragment(payload, flags)]
            stream = self._streams.get(stream_id)
            if stream is not None and flags & frames.END_STREAM:
                stream.ended = True  # with this header block
        else:
            self._fragments.append(payload)
        if not flags & frames.END_HEADERS:
            return
        status = self._decoder.get(b"".join(self._fragments))
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if status[0] >= 0:
            stream.status = status
        if stream.ended:
            self._finish(stream_id, stream)

    def _on_window(self, stream_id: int, payload: bytes) -> None:
        increment = frames.decode_increment(payload, stream_id)
        if stream_id == 0:
            self._window += increment
        elif (stream := self._streams.get(stream_id)) is not None:
            stream.window += increment
        if self._backlog:
            self._pump()

    def _on_settings(self, payload: bytes) -> None:
        for key, value in frames.decode_settings(payload):
            if key == frames.SETTINGS_INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._initial_window
                self._initial_window = value
            elif key == frames.SETTINGS_MAX_FRAME_SIZE:
                self._max_frame = value
            elif key == frames.SETTINGS_HEADER_TABLE_SIZE:
                self._encoder.header_table_size = min(value, 4096)
                self._blocks_sent = 0
        self._write(frames.SETTINGS_ACK)
        if self._backlog:
            self._pump()

    def _finish(self, stream_id: int, stream: _Stream) -> None:
        code, message = stream.status
        body = stream.chunks[0] if len(stream.chunks) == 1 else b"".join(stream.chunks)
        if code == 0:
            self._end(stream_id, Answer(body=body[_PREFIX_BYTES:]))
        else:
            name = _NAMES.get(code, str(code)) if code > 0 else "no gRPC status"
            self._end(stream_id, Answer(f"{name}: {message}"))

    def _end(self, stream_id: int, answer: Answer) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.done(answer)

    def _write(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def _lose(self, reason: str) -> None:
        streams, self._streams = self._streams, {}
        self._backlog.clear()
        for stream in streams.values():
            stream.done(Answer(reason, lost=True))


def _status(headers: Headers) -> _Status:
    fields = dict(headers)
    status = fields.get(b"grpc-status")
    if status is None:
        http = fields.get(b":status", b"200")
        return (-1, "") if http == b"200" else (2, f"HTTP status {http.decode()}")
    return int(status), unquote(fields.get(b"grpc-message", b"").decode(errors="replace"))
