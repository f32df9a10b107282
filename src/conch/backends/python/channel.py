"""A socket that carries framed messages on the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from conch.backends.python.stub.conch_stub.protocol import BrokenStreamError, FrameReader, encode

_READ_BYTES = 1 << 16


class Channel:
    """Sends messages without ever blocking and hands on those that arrive.

    Args:
        connection: a stream socket, owned from now on.
        on_message: takes each decoded message.
        on_end: called once when the other side closed its end, or sent what is no message.
    """

    def __init__(
        self, connection: socket.socket, on_message: Callable[[Any], None], on_end: Callable[[], None]
    ) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(on_message)
        self._on_end = on_end
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._unsent = bytearray()
        self._open = True
        self._loop.add_reader(connection.fileno(), self._receive)

    def send(self, message: tuple[Any, ...]) -> None:
        """Send now as much as the socket takes, the rest when it takes more. Nothing happens once the other is gone."""
        frame = encode(message)
        if not self._open:
            return
        if self._unsent:
            self._unsent += frame
            return
        sent = self._send_some(frame)
        if sent < len(frame):
            self._unsent += memoryview(frame)[sent:]
            self._loop.add_writer(self._connection.fileno(), self._send_unsent)

    def drain(self) -> None:
        """Take in what has arrived already, without waiting for the loop to say so."""
        while self._open and self._receive():
            pass

    def close(self) -> None:
        """Close this end. Idempotent."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._connection.fileno())
            self._loop.remove_writer(self._connection.fileno())
            self._connection.close()

    def _receive(self) -> bool:
        """Read once; whether anything was there."""
        try:
            size = self._connection.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            size = 0
        if not size:
            self._end()
            return False
        try:
            self._reader.feed(self._buffer[:size])
        except BrokenStreamError:
            self._end()
            return False
        return True

    def _send_some(self, data: bytes | bytearray) -> int:
        try:
            return self._connection.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            return len(data)  # the other side is gone; its end is noticed by reading

    def _send_unsent(self) -> None:
        del self._unsent[: self._send_some(self._unsent)]
        if not self._unsent:
            self._loop.remove_writer(self._connection.fileno())

    def _end(self) -> None:
        self.close()
        self._on_end()
