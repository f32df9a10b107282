"""When a connection ends by the clock: handshake, keepalive, age, and the graceful drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.frames import ErrorCode

if TYPE_CHECKING:
    from conch.wire.grpc.http2.connection import Connection

_DRAIN_PING = b"draining"
_KEEPALIVE_PING = b"keepaliv"
#: A client that has not sent its preface and SETTINGS by then is no HTTP/2 client.
_HANDSHAKE_S = 20.0
#: How long the transport may take to write the last bytes.
_CLOSE_S = 5.0


class Lifetime:
    """The timers of one connection.

    Attributes:
        heard: bytes came since the last look; whoever receives sets it.
        goaway_sent: the final GOAWAY is out; streams opened from now on are ignored.
    """

    def __init__(self, connection: Connection[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._limits = connection.limits
        self._loop = loop
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._draining = False
        self.heard = False
        self.goaway_sent = False

    def start(self) -> None:
        """The connection is open."""
        self._after("handshake", _HANDSHAKE_S, self._connection.close)
        self._after("keepalive", self._limits.keepalive_time_s, self._keep_alive)
        self._after("age", self._limits.max_age_s, self._retire)

    def greeted(self) -> None:
        """The client has spoken HTTP/2."""
        self._cancel("handshake")

    def stop(self) -> None:
        """The connection is gone."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def drain(self) -> None:
        """Take no new streams, let the open ones end, then close (RFC 9113, section 6.8).

        The first GOAWAY lets streams through that the client opened before it could know; the answered PING proves that
        it knows, and the second GOAWAY names the last stream.
        """
        if self._draining:
            return
        self._draining = True
        outbound = self._connection.outbound
        outbound.control(frames.encode_goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR, "draining"))
        outbound.control(frames.encode_ping(_DRAIN_PING, ack=False))

    def pong(self, payload: bytes) -> None:
        """The client answered a ping."""
        if payload == _KEEPALIVE_PING:
            self._cancel("keepalive timeout")
        elif payload == _DRAIN_PING and self._draining and not self.goaway_sent:
            self.goaway_sent = True
            last = self._connection.last_stream_id
            self._connection.outbound.control(frames.encode_goaway(last, ErrorCode.NO_ERROR, "draining"))
            self.stream_ended()

    def stream_ended(self) -> None:
        """A stream is gone; after the final GOAWAY the last one takes the connection with it."""
        if self.goaway_sent and not self._connection.streams:
            self._connection.close()

    def abort_later(self, transport: asyncio.Transport) -> None:
        """The transport is closing; drop it if the peer does not read."""
        self._after("abort", _CLOSE_S, transport.abort)

    def _keep_alive(self) -> None:
        idle, self.heard = not self.heard, False
        if idle and (self._connection.streams or self._limits.keepalive_without_calls):
            self._connection.outbound.control(frames.encode_ping(_KEEPALIVE_PING, ack=False))
            self._after("keepalive timeout", self._limits.keepalive_timeout_s, self._connection.close)
        self._after("keepalive", self._limits.keepalive_time_s, self._keep_alive)

    def _retire(self) -> None:
        self.drain()
        self._after("age grace", self._limits.max_age_grace_s, self._connection.close)

    def _after(self, name: str, delay_s: float, callback: Callable[[], object]) -> None:
        self._cancel(name)
        if delay_s != float("inf"):
            self._timers[name] = self._loop.call_later(delay_s, callback)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
