"""A listening socket and the connections that came through it."""

from __future__ import annotations

import asyncio

from conch.errors import UnavailableError
from conch.tensor.memory import Allocate, heap_memory
from conch.wire.http.connection import Connection
from conch.wire.http.known_heads import KnownHeads
from conch.wire.http.messages import HttpApp
from conch.wire.http.reader import Limits
from conch.wire.tls import TlsOptions, tls_context

_BACKLOG = 1024
_SWEEP_S = 1.0


class Listener:
    """Accepts connections for an app. `start` on a running event loop, then `drain` or `close` once.

    Attributes:
        port: the port in use, after `start`; tells which one the system chose for port 0.
    """

    def __init__(self, app: HttpApp, limits: Limits, allocate: Allocate = heap_memory) -> None:
        self.app = app
        self.limits = limits
        self.allocate = allocate
        self.port = 0
        self.loop: asyncio.AbstractEventLoop
        self._server: asyncio.Server | None = None
        self.heads = KnownHeads()
        self._connections: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._all_closed: asyncio.Future[None] | None = None
        self._draining = False

    async def start(self, host: str, port: int, reuse_port: bool, tls: TlsOptions | None = None) -> None:
        """Listen.

        Raises:
            InvalidArgumentError: the TLS files cannot be used.
            UnavailableError: the address cannot be listened on, e.g. because another process does.
        """
        self.loop = asyncio.get_running_loop()
        context = None if tls is None else tls_context(tls, "http/1.1")
        try:
            self._server = await self.loop.create_server(
                lambda: Connection(self), host, port, ssl=context, reuse_port=reuse_port or None, backlog=_BACKLOG
            )
        except OSError as error:
            raise UnavailableError(
                f"Socket '{host}:{port}' cannot be listened on: {error.strerror or error}. Stop the process that uses "
                "it or choose another port or address."
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._sweep_later()

    async def drain(self, timeout_s: float) -> None:
        """Accept nothing new, finish what is in flight, close; what is left after `timeout_s` is cut off."""
        self._stop_listening()
        self._draining = True
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            self._all_closed = self.loop.create_future()
            await asyncio.wait([self._all_closed], timeout=timeout_s)
            self._all_closed = None
        await self.close()

    async def close(self) -> None:
        """Stop at once. Idempotent."""
        self._stop_listening()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._connections:
            self._all_closed = self.loop.create_future()
            for connection in list(self._connections):
                connection.abort()
            await self._all_closed
            self._all_closed = None

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def opened(self, connection: Connection) -> None:
        """A connection was accepted."""
        self._connections.add(connection)
        if self._draining:  # accepted just before the listening socket closed
            connection.drain()

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if not self._connections and self._all_closed is not None and not self._all_closed.done():
            self._all_closed.set_result(None)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _sweep_later(self) -> None:
        period = min(_SWEEP_S, self.limits.request_timeout_s / 4, self.limits.idle_timeout_s / 4)
        self._sweeper = self.loop.call_later(period, self._sweep)

    def sweep(self, now: float) -> None:
        """End connections that are over a timeout at `now` on the loop's clock. Happens by itself, too."""
        for connection in list(self._connections):
            connection.sweep(now)

    def _sweep(self) -> None:
        self.sweep(self.loop.time())
        self._sweep_later()
