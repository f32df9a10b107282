"""A real `conch serve` process for tests."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec


class ServerProcess(msgspec.Struct):
    """A server that is (or was) running."""

    process: subprocess.Popen[bytes]
    http: int
    grpc: int
    metrics: int
    log: Path

    @property
    def http_url(self) -> str:
        return f"127.0.0.1:{self.http}"

    @property
    def grpc_url(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM and wait; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


#: The sockets of the latest ports: as long as they are bound, the system gives these ports to nobody else. A server can
#: listen on them all the same, as it allows addresses to be used again, and so do these.
_RESERVED: deque[socket.socket] = deque(maxlen=64)


def free_ports(count: int) -> list[int]:
    """Ports for servers that are about to start, which no other process takes meanwhile."""
    ports = []
    for _ in range(count):
        if len(_RESERVED) == _RESERVED.maxlen:
            _RESERVED.popleft().close()
        _RESERVED.append(socket.socket())
        _RESERVED[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _RESERVED[-1].bind(("127.0.0.1", 0))
        ports.append(_RESERVED[-1].getsockname()[1])
    return ports


@atexit.register
def _release_ports() -> None:
    while _RESERVED:
        _RESERVED.popleft().close()


def launch(repository: Path, log: Path, *flags: str) -> ServerProcess:
    """Start a server without waiting for it."""
    http, grpc, metrics = free_ports(3)
    command = [sys.executable, "-m", "conch", "serve", f"--model-repository={repository}"]
    for name, port in (("http", http), ("grpc", grpc), ("metrics", metrics)):
        command += [f"--{name}-address=127.0.0.1", f"--{name}-port={port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *flags], stdout=output, stderr=output, env=os.environ | {"PYTHONWARNINGS": ""}
        )
    return ServerProcess(process, http, grpc, metrics, log)


@contextlib.contextmanager
def serving(repository: Path, *flags: str, ready: bool = True, limit_s: float = 100) -> Iterator[ServerProcess]:
    """A server, ready unless told otherwise; stopped at the end whatever happened."""
    server = launch(repository, repository.parent / f"{repository.name}.log", *flags)
    try:
        path = "ready" if ready else "live"
        wait_until(lambda: ended(server) or answers(f"http://{server.http_url}/v2/health/{path}"), limit_s)
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended with {server.process.returncode}:\n{server.log_text()}")
        yield server
    finally:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
        try:
            server.process.wait(40)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


def ended(server: ServerProcess) -> bool:
    return server.process.poll() is not None


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait_until(condition: object, limit_s: float = 60) -> None:
    """Poll until `condition()` is true; fails the test when it never is."""
    deadline = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise AssertionError(f"condition not met within {limit_s} s")
        time.sleep(0.02)
