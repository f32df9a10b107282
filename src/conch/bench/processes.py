"""Servers started for a comparison: each a process of its own on free ports, watched from outside."""

from __future__ import annotations

import contextlib
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import psutil

from conch.errors import InvalidArgumentError, UnavailableError

#: How `conch serve` is started; other servers are given as a command of the same form.
CONCH = (
    f"{shlex.quote(sys.executable)} -m conch serve --model-repository={{repository}} --model-control-mode=explicit "
    "--load-model={model} --http-address=127.0.0.1 --grpc-address=127.0.0.1 --metrics-address=127.0.0.1 "
    "--http-port={http} --grpc-port={grpc} --metrics-port={metrics}"
)

_POLL_S = 0.02
_STOP_S = 40.0
_LOG_LINES = 15


class Subject(msgspec.Struct, frozen=True):
    """What is compared: a model of a repository on a server.

    Attributes:
        label: what tables call it.
        command: with {repository}, {model}, {http}, {grpc} and {metrics} to be filled in.
    """

    label: str
    repository: Path
    model: str
    command: str = CONCH


class Memory(msgspec.Struct, frozen=True):
    """Resident memory of a server and all its children. `pss_bytes` counts shared pages once, 0 where not known."""

    rss_bytes: int
    pss_bytes: int


class Running(msgspec.Struct, frozen=True):
    """A server that is ready; `startup_s` is the time from its start until its model could be asked."""

    subject: Subject
    process: psutil.Process
    http: int
    grpc: int
    metrics: int
    startup_s: float

    def url(self, protocol: str) -> str:
        """`host:port` for a protocol."""
        return f"127.0.0.1:{self.grpc if protocol == 'grpc' else self.http}"

    def memory(self) -> Memory:
        """As it is now."""
        rss = pss = 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                full = process.memory_full_info()
                rss += full.rss
                pss += getattr(full, "pss", 0)
        return Memory(rss, pss)

    def cpu_s(self) -> float:
        """Processor time that it and its children have used since they started."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def _tree(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self.process, *self.process.children(recursive=True)]
        return []


def machine_cpu_s() -> float:
    """Processor time that the whole machine has spent on work since it started, all cores together."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


@contextlib.contextmanager
def running(subject: Subject, limit_s: float) -> Iterator[Running]:
    """Start a server and wait until its model is ready; stop it at the end.

    Raises:
        UnavailableError: it ended or was not ready in time; the text has the end of its log.
        InvalidArgumentError: the command cannot be run.
    """
    http, grpc, metrics = _free_ports(3)
    fields = {"repository": shlex.quote(str(subject.repository)), "model": shlex.quote(subject.model)}
    try:
        line = shlex.split(subject.command.format(**fields, http=http, grpc=grpc, metrics=metrics))
    except (KeyError, IndexError, ValueError) as error:
        raise InvalidArgumentError(
            f"the command '{subject.command}' cannot be filled in ({error!r}): it may name {{repository}}, {{model}}, "
            "{http}, {grpc} and {metrics}"
        ) from error
    with tempfile.NamedTemporaryFile(prefix="conch-compare-", suffix=".log") as log:
        started = time.monotonic()
        try:
            child = subprocess.Popen(line, stdout=log, stderr=log)
        except OSError as error:
            raise InvalidArgumentError(f"cannot start '{line[0]}': {error.strerror}") from error
        try:
            _wait_ready(child, subject, http, started + limit_s, Path(log.name))
            yield Running(subject, psutil.Process(child.pid), http, grpc, metrics, time.monotonic() - started)
        finally:
            _stop(child)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_ready(child: subprocess.Popen[bytes], subject: Subject, http: int, deadline: float, log: Path) -> None:
    url = f"http://127.0.0.1:{http}/v2/models/{quote(subject.model, safe='')}/ready"
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise UnavailableError(f"the server of {subject.label} ended with {child.returncode}:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass  # not yet: asked again below, until the deadline
        time.sleep(_POLL_S)
    raise UnavailableError(f"the server of {subject.label} was not ready in time (--start-limit):\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
