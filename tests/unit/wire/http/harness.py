"""An HTTP server in front of a fake one, on its own event loop, and blocking clients for it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import uvloop

from conch.wire.api_keys import ApiKeys
from conch.wire.http.server import HttpOptions, HttpServer
from conch.wire.shared_memory import SharedMemoryRegions
from tests.unit.wire.http.fake_server import FakeServer

T = TypeVar("T")
_TIMEOUT_S = 60.0


class Answer(NamedTuple):
    """A reply as a client saw it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        document = self.json
        assert list(document) == ["error"], document
        return str(document["error"])


class Served:
    """A running server and ways to talk to it. `fake` belongs to the server's loop: change it through `call`."""

    def __init__(self, server: HttpServer, fake: FakeServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.fake = fake
        self.port = server.port
        self._loop = loop

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the server's loop."""

        async def run() -> T:
            return function()

        return self.run(run())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_TIMEOUT_S)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Callable[[], T]:
        """Start a coroutine on the server's loop; what is returned waits for its result."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return lambda: future.result(_TIMEOUT_S)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds on the server's loop."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not self.call(condition):
            assert time.monotonic() < deadline, "condition did not come true"

    def sweep(self, later_s: float) -> None:
        """Apply the timeouts as if that much time had passed."""
        self.call(lambda: self.server.listener.sweep(self._loop.time() + later_s))

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)

    def get(self, path: str, method: str = "GET") -> Answer:
        connection = self.connect()
        try:
            return request(connection, method, path)
        finally:
            connection.close()

    def post(self, path: str, body: bytes | object = b"", headers: Mapping[str, str] | None = None) -> Answer:
        connection = self.connect()
        try:
            return request(connection, "POST", path, body, headers)
        finally:
            connection.close()

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT_S)

    def exchange(self, sent: bytes) -> bytes:
        """What comes back for raw bytes, up to the server closing the connection."""
        with self.socket() as connection:
            connection.sendall(sent)
            return read_to_end(connection)


def request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | object = b"",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on an open connection; anything but bytes goes as JSON."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, payload or None, dict(headers or {}))
    reply = connection.getresponse()
    return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(1 << 16):
        received += chunk
    return received


def read_replies(connection: socket.socket, count: int) -> bytes:
    """Everything up to the end of the `count`-th reply that has a JSON object as body, or no body at all."""
    received = b""
    while received.count(b"HTTP/1.1 ") < count or not received.endswith((b"}", b"\r\n\r\n")):
        chunk = connection.recv(1 << 16)
        assert chunk, received
        received += chunk
    return received


def binary_request(entries: list[dict[str, Any]], tail: bytes, **fields: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request with binary data behind its head."""
    head = json.dumps({"inputs": entries, **fields}).encode()
    return head + tail, {"Inference-Header-Content-Length": str(len(head))}


@contextmanager
def serving(
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    keys: ApiKeys | None = None,
    regions: SharedMemoryRegions | None = None,
    **options: Any,
) -> Iterator[Served]:
    """A server with a loop and thread of its own; `options` are fields of HttpOptions."""
    fake = FakeServer()
    loop = new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="http server")
    thread.start()

    def wait(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_TIMEOUT_S)

    async def make() -> HttpServer:
        server = HttpServer(fake, HttpOptions(host="127.0.0.1", port=0, **options), regions, keys)
        await server.start()
        return server

    try:
        server = wait(make())
        try:
            yield Served(server, fake, loop)
        finally:
            wait(server.close())
            wait(loop.shutdown_default_executor())
            wait(_no_tasks_left())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _no_tasks_left() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=_TIMEOUT_S)
        assert all(task.done() for task in left), f"tasks left: {left}"
