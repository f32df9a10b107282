"""Reading a large piece of a connection's bytes where it is to lie, instead of copying it there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Less is not worth the change of protocols.
PLACED_BYTES = 64 << 10


class PlacedReader(asyncio.BufferedProtocol):
    """Stands in for a connection's protocol until a buffer is full; the system reads straight into that.

    Args:
        protocol: whose place it takes. It must read nothing beyond what fills the buffer, and hears of everything else.
        target: the bytes to fill, as many as are sure to come.
        on_progress: called whenever something came.
        on_full: called once the buffer is full and the protocol is back in its place.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        target: memoryview,
        on_progress: Callable[[], None],
        on_full: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._left = target
        self._on_progress = on_progress
        self._on_full = on_full
        self._switch(self)

    def _switch(self, protocol: asyncio.BaseProtocol) -> None:
        # A transport decides how it reads when it starts to.
        self._transport.pause_reading()
        self._transport.set_protocol(protocol)
        self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._left

    def buffer_updated(self, nbytes: int) -> None:
        self._left = self._left[nbytes:]
        self._on_progress()
        if not self._left and not self._transport.is_closing():
            self._switch(self._protocol)
            self._on_full()

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
