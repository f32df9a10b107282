"""The child's own calls to the server: one socket, one lock, any thread."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

from .errors import TritonModelException
from .protocol import FAILED, FrameReader, encode


class ServerCalls:
    """Sends calls of the model to its server."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._answers: list[Any] = []
        self._reader = FrameReader(self._answers.append)

    def tell(self, *call: Any) -> None:
        """A call without an answer. Silent once the server is gone: the process is about to end."""
        with self._lock:
            try:
                self._connection.sendall(encode(call))
            except OSError:
                return

    def ask(self, *call: Any) -> Any:
        """A call with an answer.

        Raises:
            TritonModelException: the server refused (its text says why), or this process is a fork of the model's.
        """
        if os.getpid() != self._process:
            raise TritonModelException("only the process that the server started may ask it, not a fork of it")
        with self._lock:
            try:
                self._connection.sendall(encode(call))
                while not self._answers:
                    data = self._connection.recv(1 << 16)
                    if not data:
                        raise TritonModelException("the server is gone")
                    self._reader.feed(data)
            except OSError as error:
                raise TritonModelException(f"the server is gone: {error}") from error
            outcome, value = self._answers.pop()
        if outcome == FAILED:
            raise TritonModelException(value)
        return value


_current: ServerCalls | None = None


def connect(connection: socket.socket) -> None:
    """Set the connection that the whole process uses."""
    global _current
    _current = ServerCalls(connection)


def server() -> ServerCalls:
    """The connection. Raises TritonModelException in a process the server did not start (one forked by a model)."""
    if _current is None:
        raise TritonModelException("there is no server: this process was not started by one")
    return _current
