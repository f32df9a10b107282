"""The gRPC endpoint: listens, keeps its connections, drains and closes them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from conch.core.api import ServerApi
from conch.errors import UnavailableError
from conch.wire.api_keys import ApiKeys
from conch.wire.grpc.head import CallHead
from conch.wire.grpc.http2.connection import Connection
from conch.wire.grpc.options import GrpcOptions
from conch.wire.grpc.service import InferenceService
from conch.wire.shared_memory import SharedMemoryRegions
from conch.wire.tls import tls_context

#: How many connections may wait to be accepted.
_BACKLOG = 1024


class _Connections:
    """The open connections; `empty` is set while there is none."""

    def __init__(self) -> None:
        self.open: set[Connection[Any]] = set()
        self.empty = asyncio.Event()
        self.empty.set()

    def add(self, connection: Connection[Any]) -> None:
        self.open.add(connection)
        self.empty.clear()

    def discard(self, connection: Connection[Any]) -> None:
        self.open.discard(connection)
        if not self.open:
            self.empty.set()


class GrpcServer:
    """gRPC over our own HTTP/2, on the running event loop.

    Args:
        server: answers the requests.
        options: where and how to listen.
        regions: the shared memory it has in common with other protocols.
        keys: those of which calls have to present one; None for no such rule.

    Raises:
        InvalidArgumentError: the header forward pattern is no regular expression.
    """

    def __init__(
        self,
        server: ServerApi,
        options: GrpcOptions,
        regions: SharedMemoryRegions | None = None,
        keys: ApiKeys | None = None,
    ) -> None:
        self._options = options
        self._service = InferenceService(server, options, regions or SharedMemoryRegions(), keys)
        self._connections = _Connections()
        self._listener: asyncio.Server | None = None
        self._port: int | None = None

    @property
    def port(self) -> int:
        """The port listened on; known after `start`."""
        if self._port is None:
            raise RuntimeError("the gRPC server has no port before start()")
        return self._port

    async def start(self) -> None:
        """Listen.

        Raises:
            UnavailableError: the address cannot be listened on.
            InvalidArgumentError: the TLS files cannot be used.
        """
        options = self._options
        context = tls_context(options.tls, "h2") if options.tls is not None else None
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._connect,
                options.host,
                options.port,
                ssl=context,
                backlog=_BACKLOG,
                reuse_port=options.reuse_port or None,
            )
        except OSError as error:
            address = f"{options.host}:{options.port}"
            raise UnavailableError(
                f"failed to start gRPC service at {address}: {error}. Stop the process that uses it or choose another "
                "port or address."
            ) from error
        self._port = int(self._listener.sockets[0].getsockname()[1])

    async def drain(self, timeout_s: float) -> None:
        """Accept nothing new and let open calls end; returns when all connections are closed or the time is up."""
        self._stop_listening()
        self._service.drain()
        for connection in list(self._connections.open):
            connection.lifetime.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connections.empty.wait(), timeout_s)

    async def close(self) -> None:
        """Stop at once: open calls are cancelled. Idempotent."""
        self._stop_listening()
        for connection in list(self._connections.open):
            connection.abort()
        await self._connections.empty.wait()
        await self._service.close()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()

    def _connect(self) -> Connection[CallHead]:
        return Connection(self._service.calls, self._options.limits, self._connections)
