"""One HTTP/2 connection: bytes in, streams opened, fed and reset; protocol errors answered as RFC 9113 demands."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Generic, Protocol, TypeVar, cast

from conch.tensor.tensor import Buffer
from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.control import ControlFrames
from conch.wire.grpc.http2.frames import ConnectionFault, ErrorCode, StreamFault
from conch.wire.grpc.http2.header_blocks import HeaderBlocks
from conch.wire.grpc.http2.hpack_cache import Headers, HpackCache
from conch.wire.grpc.http2.lifetime import Lifetime
from conch.wire.grpc.http2.limits import Http2Limits
from conch.wire.grpc.http2.outbound import Outbound
from conch.wire.grpc.http2.stream import NOBODY, Receiver, Stream
from conch.wire.placed_reader import PLACED_BYTES, PlacedReader

logger = logging.getLogger("conch.wire.grpc")

H = TypeVar("H")

_unpack = frames.HEADER.unpack_from

#: The preface and the header of the first frame, which tells whether it is SETTINGS.
_GREETING_BYTES = len(frames.PREFACE) + frames.HEADER_BYTES
#: DATA payloads of this size are passed on as views into what was received instead of being copied.
_LARGE_BYTES = 64 << 10
#: Frames other than DATA have no business being larger than this.
_MAX_CONTROL_BYTES = 64 << 10


class StreamService(Protocol[H]):
    """What a connection serves."""

    def parse(self, headers: Headers) -> H:
        """What is needed of a request's headers. Pure and total: equal header blocks share one result."""
        ...

    def open(self, stream: Stream, head: H) -> Receiver:
        """A client opened a stream."""
        ...


class Connections(Protocol):
    """Who keeps account of the open connections."""

    def add(self, connection: Connection[Any]) -> None: ...

    def discard(self, connection: Connection[Any]) -> None: ...


class Connection(asyncio.Protocol, Generic[H]):
    """The server's end of a connection.

    Args:
        service: what is served.
        limits: what the connection may cost.
        connections: the connection adds itself there while it is open.
    """

    def __init__(self, service: StreamService[H], limits: Http2Limits, connections: Connections) -> None:
        loop = asyncio.get_running_loop()
        self.limits = limits
        self.streams: dict[int, Stream] = {}
        self.last_stream_id = 0
        self.outbound = Outbound(loop, self._stream_ended, limits.max_unwritten_bytes)
        self.lifetime = Lifetime(self, loop)
        self._service = service
        self._connections = connections
        self._heads = HpackCache(service.parse, limits.max_header_list_bytes)
        self._transport: asyncio.Transport | None = None
        self._partial = bytearray()
        self._needed = frames.HEADER_BYTES
        self._greeted = False
        self._failed = False
        self._data_left = 0
        self._data_flags = 0
        self._data_stream = 0
        self._blocks = HeaderBlocks(limits.max_header_list_bytes, self._on_header_block)
        self._receive_window = limits.connection_window_bytes
        self._control = control = ControlFrames(self, loop)
        self._on_frame = (
            self._on_data_frame,
            self._blocks.on_headers,
            control.on_priority,
            control.on_rst_stream,
            control.on_settings,
            control.on_push_promise,
            control.on_ping,
            control.on_goaway,
            control.on_window_update,
            self._blocks.on_continuation,
        )

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        self._transport = transport
        transport.set_write_buffer_limits(high=1 << 20)
        self._connections.add(self)
        self.outbound.connect(transport)
        self.outbound.control(
            frames.encode_settings(
                {
                    frames.SETTINGS_MAX_CONCURRENT_STREAMS: self.limits.max_concurrent_streams,
                    frames.SETTINGS_INITIAL_WINDOW_SIZE: self.limits.stream_window_bytes,
                    frames.SETTINGS_MAX_FRAME_SIZE: self.limits.max_frame_bytes,
                    frames.SETTINGS_MAX_HEADER_LIST_SIZE: self.limits.max_header_list_bytes,
                }
            )
        )
        self.outbound.control(frames.encode_window_update(0, self._receive_window - frames.DEFAULT_WINDOW))
        self.lifetime.start()

    def data_received(self, data: bytes) -> None:
        if self._failed:
            return
        self.lifetime.heard = True
        if self._partial or not self._greeted:
            self._partial += data
            if len(self._partial) < self._needed and self._greeted:
                return
            data = bytes(self._partial)
            self._partial = bytearray()
        try:
            if not self._greeted:
                data = self._greet(data)
            self._parse(data)
        except ConnectionFault as fault:
            self.fail(fault)

    def pause_writing(self) -> None:
        self.outbound.pause()

    def resume_writing(self) -> None:
        self.outbound.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lifetime.stop()
        self.outbound.disconnect()
        self._connections.discard(self)
        self._reset_all()

    # What the rest of the package asks for.

    def reset_stream(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream with RST_STREAM; its receiver is not called again."""
        if self.streams.pop(stream.id, None) is not None:
            self.outbound.forget(stream)
            self.outbound.control(frames.encode_rst_stream(stream.id, code))
            self.lifetime.stream_ended()

    def grant(self, stream: Stream, increment: int) -> None:
        """Let the client send `increment` more bytes on a stream."""
        if stream.id in self.streams and not stream.remote_closed:
            stream.receive_window += increment
            self.outbound.control(frames.encode_window_update(stream.id, increment))

    def fail(self, fault: ConnectionFault) -> None:
        """End the connection with GOAWAY; every open stream is given up.

        What the client still sends is read and dropped for a while: closing a socket with unread bytes in it would
        take the GOAWAY back.
        """
        logger.info("closing gRPC connection of %s: %s (%s)", self.peer, fault.message, fault.code.name)
        self.outbound.control(frames.encode_goaway(self.last_stream_id, fault.code, fault.message))
        self._reset_all()
        self._failed = True
        transport = self._transport
        if transport is None or transport.is_closing() or not transport.can_write_eof():
            self.close()
            return
        self.outbound.flush()
        self.outbound.disconnect()
        transport.write_eof()
        self.lifetime.abort_later(transport)

    def close(self) -> None:
        """Close the transport once everything queued is written (or after a few seconds)."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self.outbound.flush()
            transport.close()
            self.lifetime.abort_later(transport)

    def abort(self) -> None:
        """Drop the connection without another word."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def peer(self) -> str:
        """The client's address, for logs."""
        address = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"{address[0]}:{address[1]}" if isinstance(address, tuple) and len(address) >= 2 else str(address)

    # Bytes to frames.

    def _greet(self, data: bytes) -> bytes:
        """Check the client's preface; returns what follows, or keeps the bytes when there are too few."""
        preface = frames.PREFACE
        if data[: len(preface)] != preface[: len(data)]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "expected the HTTP/2 preface; is this a gRPC client?")
        if len(data) < _GREETING_BYTES:
            self._partial += data
            return b""
        head, flags, _ = _unpack(data, len(preface))
        if head & 0xFF != frames.SETTINGS or flags & frames.ACK:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "expected SETTINGS as the first frame")
        self._greeted = True
        self.lifetime.greeted()
        return data[len(preface) :]

    def _parse(self, data: bytes) -> None:
        pos, size = 0, len(data)
        if self._data_left:
            pos = self._continue_data(data, 0)
        while size - pos >= 9:
            head, flags, stream_id = _unpack(data, pos)
            kind, length = head & 0xFF, head >> 8
            start = pos + 9
            end = start + length
            if kind == 0 and not flags & frames.PADDED and end > size and not self._blocks.unfinished:
                self._begin_data(stream_id & frames.MAX_STREAM_ID, flags, length)
                pos = self._continue_data(data, start)
                if self._data_left >= PLACED_BYTES:
                    self._place_data()
                break
            if end > size:
                self._await(kind, length)
                break
            if self._blocks.unfinished and kind != frames.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "expected CONTINUATION of a header block")
            pos = end
            if kind < 10:
                try:
                    if length < _LARGE_BYTES:
                        self._on_frame[kind](flags, stream_id & 0x7FFFFFFF, data[start:end])
                    else:
                        self._on_large_frame(kind, flags, stream_id & 0x7FFFFFFF, memoryview(data)[start:end])
                except StreamFault as fault:
                    self._on_stream_fault(fault)
        else:
            self._needed = frames.HEADER_BYTES
        if pos < size:
            self._partial += data[pos:]

    def _await(self, kind: int, length: int) -> None:
        """A frame is incomplete: how much of it must be there before parsing goes on."""
        self._check_size(kind, length)
        self._needed = frames.HEADER_BYTES + length

    def _check_size(self, kind: int, length: int) -> None:
        limit = self.limits.max_frame_bytes if kind == frames.DATA else _MAX_CONTROL_BYTES
        if length > limit:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"frame of {length} bytes, expected at most {limit}")

    def _on_large_frame(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> None:
        self._check_size(kind, len(payload))
        if kind == frames.DATA:
            chunk = frames.strip_padding(payload, flags)
            self._charge(stream_id, len(payload))
            self._deliver(stream_id, chunk, bool(flags & frames.END_STREAM))
        else:
            self._on_frame[kind](flags, stream_id, bytes(payload))

    def _on_stream_fault(self, fault: StreamFault) -> None:
        logger.info("resetting gRPC stream %d of %s: %s", fault.stream_id, self.peer, fault)
        self._control.count_reset()
        stream = self.streams.get(fault.stream_id)
        if stream is None:
            self.outbound.control(frames.encode_rst_stream(fault.stream_id, fault.code))
        else:
            self.reset_stream(stream, fault.code)
            stream.receiver.on_reset()

    # DATA

    def _on_data_frame(self, flags: int, stream_id: int, payload: bytes) -> None:
        length = len(payload)
        if flags & frames.PADDED:
            payload = bytes(frames.strip_padding(payload, flags))
        self._charge(stream_id, length)
        if payload or flags & frames.END_STREAM:
            self._deliver(stream_id, payload, bool(flags & frames.END_STREAM))
        else:
            self._control.count_control()

    def _begin_data(self, stream_id: int, flags: int, length: int) -> None:
        """A DATA frame whose payload will be passed on as it arrives."""
        self._check_size(frames.DATA, length)
        self._data_left, self._data_flags, self._data_stream = length, flags, stream_id
        try:
            self._charge(stream_id, length)
        except StreamFault as fault:
            self._on_stream_fault(fault)

    def _continue_data(self, data: bytes, start: int) -> int:
        """Pass on what is here of a DATA payload, from `start`; returns where it ends."""
        stop = min(len(data), start + self._data_left)
        self._data_left -= stop - start
        chunk = data if stop - start == len(data) else memoryview(data)[start:stop]
        end = not self._data_left and bool(self._data_flags & frames.END_STREAM)
        if stop > start or end:
            try:
                self._deliver(self._data_stream, chunk, end)
            except StreamFault as fault:
                self._on_stream_fault(fault)
        return stop

    def _place_data(self) -> None:
        """Let the rest of a DATA payload be read where the stream's receiver wants it, if it does."""
        stream = self.streams.get(self._data_stream)
        place = stream.receiver.place(self._data_left) if stream is not None else None
        if place is not None and self._transport is not None and not self._transport.is_closing():
            PlacedReader(self._transport, self, place, self._on_progress, self._on_placed)

    def _on_progress(self) -> None:
        self.lifetime.heard = True

    def _on_placed(self) -> None:
        size, self._data_left = self._data_left, 0
        stream = self.streams.get(self._data_stream)
        if stream is not None:
            end = bool(self._data_flags & frames.END_STREAM)
            stream.remote_closed = end
            stream.receiver.on_placed(size, end)

    def _charge(self, stream_id: int, length: int) -> None:
        """Take a frame's length from both receive windows; the connection's is refilled at once when half gone."""
        self._receive_window -= length
        if self._receive_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        limit = self.limits.connection_window_bytes
        if self._receive_window < limit >> 1:
            self.outbound.control(frames.encode_window_update(0, limit - self._receive_window))
            self._receive_window = limit
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.receive_window -= length
            if stream.receive_window < 0:
                raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
        else:
            self._control.check_not_idle(stream_id, "DATA")

    def _deliver(self, stream_id: int, chunk: Buffer, end: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            return  # we ended it already; what the client had sent by then is of no use
        if stream.remote_closed:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "data after the end of the stream")
        if end:
            stream.remote_closed = True
        stream.receiver.on_data(chunk, end)

    # Header blocks

    def _on_header_block(self, flags: int, stream_id: int, block: bytes) -> None:
        head = self._heads.get(block)  # always, even if of no use: it may change the state of HPACK
        end = bool(flags & frames.END_STREAM)
        streams = self.streams
        if stream_id <= self.last_stream_id:
            self._on_trailers(stream_id, end)
            return
        if self.lifetime.goaway_sent:
            return  # the client learns from GOAWAY that this one was not processed
        self.last_stream_id = stream_id
        if len(streams) >= self.limits.max_concurrent_streams:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "too many concurrent streams")
        stream = Stream(self, stream_id, self.outbound.initial_window, self.limits.stream_window_bytes)
        streams[stream_id] = stream
        stream.receiver = self._service.open(stream, head)
        if end:
            self._deliver(stream_id, b"", True)

    def _on_trailers(self, stream_id: int, end: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None and not end:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "trailers without the end of the stream")
        self._deliver(stream_id, b"", True)

    # The end of streams.

    def _stream_ended(self, stream: Stream) -> None:
        if self.streams.pop(stream.id, None) is not None:
            stream.receiver = NOBODY  # stream and receiver refer to each other: no work for the garbage collector
            if not stream.remote_closed:
                self.outbound.control(frames.encode_rst_stream(stream.id, ErrorCode.NO_ERROR))
            if not self.streams:
                self.lifetime.stream_ended()

    def _reset_all(self) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            self.outbound.forget(stream)
            stream.receiver.on_reset()
