"""Server processes under measurement."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil


class Server(msgspec.Struct, frozen=True):
    """A running server: its ports and process."""

    name: str
    http: int
    grpc: int
    metrics: int
    process: psutil.Process
    ready_after_s: float

    def cpu_s(self) -> float:
        """Processor time that it and its models' processes have used."""
        return sum(sum(each.cpu_times()[:2]) for each in (self.process, *self.process.children(recursive=True)))


CONCH = (
    f"{shlex.quote(sys.executable)} -m conch serve --model-repository={{repository}} --http-address=127.0.0.1 "
    "--grpc-address=127.0.0.1 --metrics-address=127.0.0.1 --http-port={http} --grpc-port={grpc} "
    "--metrics-port={metrics}"
)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running(name: str, command: str, repository: Path, limit_s: float = 120.0) -> Iterator[Server]:
    """Start a server, wait until it is ready, stop it at the end.

    Raises:
        RuntimeError: it ended or was not ready in time; its output is part of the text.
    """
    http, grpc, metrics = free_ports(3)
    line = command.format(repository=repository, http=http, grpc=grpc, metrics=metrics)
    log_path = repository.parent / f"{name}.log"
    with log_path.open("wb") as log:
        started = time.monotonic()
        child = subprocess.Popen(shlex.split(line), stdout=log, stderr=log, env=_environment())
        try:
            _wait_ready(child, http, started + limit_s, log_path)
            yield Server(name, http, grpc, metrics, psutil.Process(child.pid), time.monotonic() - started)
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout=40)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _environment() -> dict[str, str]:
    """This process's, but for bytecode that may not be kept: what pip installs is compiled, a checkout is not."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _wait_ready(child: subprocess.Popen[bytes], http: int, deadline: float, log: Path) -> None:
    url = f"http://127.0.0.1:{http}/v2/health/ready"
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise RuntimeError(f"server ended with {child.returncode}:\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.005)
    raise RuntimeError(f"server not ready in time:\n{log.read_text()[-2000:]}")
