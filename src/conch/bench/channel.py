"""Connections that carry requests, whatever the protocol: callbacks, not tasks, so that the client stays light."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What came back.

    Attributes:
        error: "" for success, otherwise the server's text or what happened to the connection.
        body: the message.
        head_bytes: HTTP: length of the JSON head in front of binary tensors; -1 where the body is JSON alone.
        lost: there was no answer; the connection could not be made or ended.
    """

    error: str = ""
    body: bytes = b""
    head_bytes: int = -1
    lost: bool = False


#: Called exactly once with the answer to a request.
Done = Callable[[Answer], None]


class Connection(Protocol):
    """One connection to the server."""

    @property
    def usable(self) -> bool:
        """It takes another request."""
        ...

    def send(self, request: bytes, done: Done) -> None:
        """Send a request that was encoded for this kind of connection."""
        ...

    def close(self) -> None:
        """Drop the connection; requests in flight end with a lost answer."""
        ...


#: Connects to the server; raises OSError.
Dial = Callable[[], Awaitable[Connection]]


class Channel:
    """A connection that is made when it is needed, and again when it was lost.

    Args:
        dial: makes the connection.
        timeout_s: how long that may take.
    """

    def __init__(self, dial: Dial, timeout_s: float) -> None:
        self._dial = dial
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._waiting: list[tuple[bytes, Done]] = []
        self._dialling: asyncio.Task[None] | None = None

    def send(self, request: bytes, done: Done) -> None:
        """Send now, or as soon as there is a connection."""
        connection = self._connection
        if connection is not None and connection.usable:
            connection.send(request, done)
            return
        self._waiting.append((request, done))
        if self._dialling is None:
            self._dialling = asyncio.get_running_loop().create_task(self._connect())

    async def ask(self, request: bytes) -> Answer:
        """Send and wait for the answer."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def settle(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.send(request, settle)
        try:
            return await asyncio.wait_for(answered, self._timeout_s)
        except TimeoutError:
            return Answer(f"no answer within {self._timeout_s:g} s", lost=True)

    def close(self) -> None:
        """Drop the connection; what waits ends with a lost answer."""
        if self._dialling is not None:
            self._dialling.cancel()
        if self._connection is not None:
            self._connection.close()
        self._give_up("the connection was closed")

    async def _connect(self) -> None:
        try:
            self._connection = await asyncio.wait_for(self._dial(), self._timeout_s)
        except (OSError, TimeoutError) as error:
            self._dialling = None
            self._give_up(str(error) or f"no connection within {self._timeout_s:g} s")
            return
        self._dialling = None
        if not self._connection.usable:
            self._give_up("the server closed the connection at once")
            return
        waiting, self._waiting = self._waiting, []
        for request, done in waiting:
            self.send(request, done)

    def _give_up(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(Answer(reason, lost=True))


class Channels:
    """Channels to one server, opened as they are asked for.

    Args:
        lanes: requests that may be in flight on one connection.
    """

    def __init__(self, dial: Dial, lanes: int, timeout_s: float) -> None:
        self._dial = dial
        self._lanes = lanes
        self._timeout_s = timeout_s
        self._channels: list[Channel] = []

    def lane(self, index: int) -> Channel:
        """The channel that carries lane `index`; each lane has at most one request in flight."""
        while len(self._channels) <= index // self._lanes:
            self._channels.append(Channel(self._dial, self._timeout_s))
        return self._channels[index // self._lanes]

    def close(self) -> None:
        """Drop all connections."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()
