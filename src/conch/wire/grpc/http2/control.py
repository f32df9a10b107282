"""The frames that carry no request: settings, pings, windows, resets; and how many of them a client may send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.frames import ConnectionFault, ErrorCode, StreamFault
from conch.wire.grpc.http2.limits import PingStrikes, RateLimit

if TYPE_CHECKING:
    from conch.wire.grpc.http2.connection import Connection


class ControlFrames:
    """Handles one connection's control frames.

    Every handler takes a frame's flags, stream id and payload, and raises ConnectionFault or StreamFault for a frame
    that breaks the protocol or comes too often.
    """

    def __init__(self, connection: Connection[Any], loop: asyncio.AbstractEventLoop) -> None:
        limits = connection.limits
        self._connection = connection
        self._outbound = connection.outbound
        self._lifetime = connection.lifetime
        self._loop = loop
        self._resets = RateLimit(limits.resets_per_s)
        self._controls = RateLimit(limits.controls_per_s)
        self._pings = PingStrikes(limits)

    def on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY must have 5 bytes")
        self.count_control()

    def on_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"RST_STREAM of {len(payload)} bytes, expected 4")
        self.check_not_idle(stream_id, "RST_STREAM")
        self.count_reset()
        stream = self._connection.streams.pop(stream_id, None)
        if stream is not None:
            self._outbound.forget(stream)
            stream.receiver.on_reset()
            self._lifetime.stream_ended()

    def on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS on stream {stream_id}, expected 0")
        self.count_control()
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            return
        for key, value in frames.decode_settings(payload):
            if key == frames.SETTINGS_MAX_FRAME_SIZE:
                self._outbound.max_frame = value
            elif key == frames.SETTINGS_INITIAL_WINDOW_SIZE:
                self._on_initial_window(value)
        self._outbound.control(frames.SETTINGS_ACK)

    def _on_initial_window(self, value: int) -> None:
        change = value - self._outbound.initial_window
        self._outbound.initial_window = value
        for stream in list(self._connection.streams.values()):
            try:
                self._outbound.enlarge_stream(stream, change)
            except StreamFault as fault:
                raise ConnectionFault(fault.code, str(fault)) from fault

    def on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"PING on stream {stream_id}, expected 0")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes, expected 8")
        self.count_control()
        if flags & frames.ACK:
            self._lifetime.pong(payload)
            return
        if self._outbound.answered:
            self._outbound.answered = False
            self._pings.forgive()
        if self._pings.too_many(self._loop.time(), bool(self._connection.streams)):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
        self._outbound.control(frames.encode_ping(payload, ack=True))

    def on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        self.count_control()  # the client opens no more streams and closes when it has its answers

    def on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        increment = frames.decode_increment(payload, stream_id)
        if not stream_id:
            self._outbound.enlarge(increment)
            return
        stream = self._connection.streams.get(stream_id)
        if stream is not None:
            self._outbound.enlarge_stream(stream, increment)
        else:
            self.check_not_idle(stream_id, "WINDOW_UPDATE")

    def check_not_idle(self, stream_id: int, what: str) -> None:
        """Raise ConnectionFault if a frame came for a stream that was never opened."""
        if stream_id == 0 or not stream_id & 1 or stream_id > self._connection.last_stream_id:
            if self._lifetime.goaway_sent and stream_id & 1:
                return  # a stream we ignored after GOAWAY
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{what} on stream {stream_id}, which was never opened")

    def count_reset(self) -> None:
        """One more stream reset by the client or for its fault; raises ConnectionFault when there are too many."""
        if not self._resets.allow(self._loop.time()):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams reset")

    def count_control(self) -> None:
        """One more frame that carries nothing; raises ConnectionFault when there are too many."""
        if not self._controls.allow(self._loop.time()):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many control frames")
