"""A model's own `is_ready`: asked by the server at any time, also while a batch is executed."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from . import protocol
from .errors import describe

_READ_BYTES = 1 << 12


def answer_checks(connection: socket.socket, model: Any) -> None:
    """From now on answer the server's questions, in a thread of their own."""
    threading.Thread(target=_serve, args=(connection, model), name="is_ready", daemon=True).start()


def _serve(connection: socket.socket, model: Any) -> None:
    questions: list[Any] = []
    reader = protocol.FrameReader(questions.append)
    with contextlib.suppress(OSError):  # the server is gone, and with it soon this process
        while True:
            data = connection.recv(_READ_BYTES)
            if not data:
                return
            reader.feed(data)
            while questions:
                questions.pop()
                connection.sendall(protocol.encode(_check(model)))


def _check(model: Any) -> tuple[bool, str]:
    """Whether the model says that it is ready; where its answer is none, what is wrong with that."""
    try:
        ready = model.is_ready()
        if hasattr(ready, "__await__"):
            import asyncio

            ready = asyncio.run(_awaited(ready))
    except BaseException as error:
        return False, f"is_ready() raised {describe(error)}"
    if type(ready) is not bool:
        return False, f"is_ready() must return True or False, got {type(ready).__name__}"
    return ready, ""


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
