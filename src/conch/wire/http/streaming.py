"""Writing a reply that comes piece by piece, no faster than the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

_LAST_CHUNK = b"0\r\n\r\n"


class StreamWriter:
    """Writes one streamed reply to a transport.

    Args:
        chunked: use chunked transfer coding; without it the end of the connection ends the body (HTTP/1.0).
        paused: the transport wants to be written nothing for now.
    """

    def __init__(self, transport: asyncio.WriteTransport, *, chunked: bool, paused: bool) -> None:
        self._transport = transport
        self._chunked = chunked
        self._paused = paused
        self._wake: asyncio.Future[None] | None = None

    def pause(self) -> None:
        """The client reads more slowly than we write."""
        self._paused = True

    def resume(self) -> None:
        """The transport takes more."""
        self._paused = False
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def write(self, head: bytes, pieces: AsyncGenerator[bytes, None]) -> None:
        """Write the head at once and every piece as it comes; `pieces` is closed however this ends."""
        self._transport.write(head)
        async with aclosing(pieces):
            async for piece in pieces:
                while self._paused:
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
        if self._chunked:
            self._transport.write(_LAST_CHUNK)
