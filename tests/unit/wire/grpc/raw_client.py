"""An HTTP/2 client that sends exactly what it is told."""

from __future__ import annotations

import socket
import struct
from typing import Any, NamedTuple

from hpack import Decoder, Encoder

from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.frames import ErrorCode

INFER = "/inference.GRPCInferenceService/ModelInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


class Frame(NamedTuple):
    """A frame as it came."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


class RawClient:
    """One connection. `settings` are sent with the preface; None sends nothing at all."""

    def __init__(self, port: int, settings: dict[int, int] | None = None, greet: bool = True) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._buffer = b""
        self._decoder = Decoder()
        self.encoder = Encoder()
        if greet:
            self.send(frames.PREFACE + frames.encode_settings(settings or {}))

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: Any) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """These bytes, at once."""
        self._socket.sendall(data)

    def headers(self, path: str = INFER, **extra: str) -> bytes:
        """An encoded header block of a call; `extra` names have _ for -."""
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test")]
        fields += [("te", "trailers"), ("content-type", "application/grpc")]
        fields += [(name.replace("_", "-"), value) for name, value in extra.items()]
        return bytes(self.encoder.encode(fields))

    def open(self, stream_id: int, path: str = INFER, end: bool = False, **extra: str) -> None:
        """Open a stream."""
        self.send(frames.encode_header_block(stream_id, self.headers(path, **extra), end, 16384))

    def data(self, stream_id: int, payload: bytes, end: bool = True) -> None:
        """One DATA frame."""
        self.send(frames.encode_frame(frames.DATA, frames.END_STREAM if end else 0, stream_id, payload))

    def receive(self) -> Frame | None:
        """The next frame, None at the end of the connection."""
        header = self._exactly(9)
        if header is None:
            return None
        head, flags, stream_id = frames.HEADER.unpack(header)
        payload = self._exactly(head >> 8)
        return None if payload is None else Frame(head & 0xFF, flags, stream_id, payload)

    def until(self, kind: int, stream_id: int | None = None) -> Frame:
        """The next frame of a kind (on a stream); others are dropped. Header blocks are still decoded."""
        while (frame := self.receive()) is not None:
            if frame.kind == kind and stream_id in (None, frame.stream_id):
                return frame
            if frame.kind == frames.GOAWAY:
                raise AssertionError(f"unexpected GOAWAY: {frame.payload[4:]!r}")
        raise AssertionError(f"the connection ended before a frame of kind {kind} came")

    def rest(self) -> list[int]:
        """The kinds of all frames until the connection is closed."""
        return [frame.kind for frame in iter(self.receive, None) if frame is not None]

    def goaway(self) -> ErrorCode:
        """The code of the GOAWAY that ends the connection."""
        code = None
        while (frame := self.receive()) is not None:
            if frame.kind == frames.GOAWAY:
                code = ErrorCode(struct.unpack(">I", frame.payload[4:8])[0])
        assert code is not None, "the connection ended without GOAWAY"
        return code

    def reset_code(self, stream_id: int) -> ErrorCode:
        """The code of the RST_STREAM that ends a stream."""
        return ErrorCode(int.from_bytes(self.until(frames.RST_STREAM, stream_id).payload))

    def answer(self, stream_id: int) -> tuple[dict[str, str], bytes]:
        """All headers and data of a stream, until it ends. Needs every window to be large enough."""
        fields: dict[str, str] = {}
        data = b""
        while True:
            frame = self.receive()
            assert frame is not None, "the connection ended in the middle of an answer"
            assert frame.kind != frames.GOAWAY, frame.payload
            if frame.stream_id != stream_id:
                continue
            if frame.kind == frames.HEADERS:
                fields |= dict(self._decoder.decode(frame.payload))
            elif frame.kind == frames.DATA:
                data += frame.payload
            if frame.flags & frames.END_STREAM:
                return fields, data

    def _exactly(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            try:
                received = self._socket.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not received:
                return None
            self._buffer += received
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def framed(message: bytes, flag: int = 0) -> bytes:
    """A gRPC message with its prefix."""
    return bytes([flag]) + len(message).to_bytes(4) + message
