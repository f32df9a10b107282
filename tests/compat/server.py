"""Starts a server on a copy of a model repository and waits until it has settled."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..posix_memory import shared_object
from ..serving import free_ports
from .exchange import Target
from .messages import MODELS_DIRECTORY, Exchange, ServerSpec
from .shared_objects import CONTENTS

#: How conch is started; `COMPAT_SERVER` in the environment names another server, with the same four places to fill.
CONCH = (
    f"{shlex.quote(sys.executable)} -m conch serve --model-repository={{repository}}"
    " --http-address=127.0.0.1 --grpc-address=127.0.0.1 --metrics-address=127.0.0.1"
    " --http-port={http} --grpc-port={grpc} --metrics-port={metrics}"
)
#: The last line that conch, or a Triton, logs while starting.
STARTED = re.compile(r"conch \S+ is ready|Started Metrics Service at")
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
DEATH_TIMEOUT_S = 1.0


def spared(exchange: Exchange) -> bool:
    """Whether an exchange is not repeated, because it would end the Triton that is tested in conch's place."""
    return "COMPAT_SERVER" in os.environ and getattr(exchange.answer, "failure", "") != ""


class StartError(Exception):
    """The server ended, or did not settle in time; the message ends with its log."""


@dataclass(frozen=True)
class RunningServer:
    """A server that has settled. `repository` is the directory it was told to serve."""

    target: Target
    repository: str
    log: Path
    process: subprocess.Popen[bytes]

    def died(self) -> bool:
        """Whether the process has ended, given a moment to do so."""
        try:
            self.process.wait(DEATH_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return False
        return True


@contextlib.contextmanager
def running(spec: ServerSpec, directory: Path) -> Iterator[RunningServer]:
    """Runs a server of that specification; `directory` receives the copy of the repository and the server's log."""
    repository = directory / "repository"
    copies = {spec.repository: repository} | {name: directory / name for name in spec.more_repositories}
    for name, copy in copies.items():
        shutil.copytree(MODELS_DIRECTORY / name, copy, ignore=shutil.ignore_patterns("__pycache__"))
    target = Target(*free_ports(3))
    template = os.environ.get("COMPAT_SERVER", CONCH)
    command = shlex.split(
        template.format(repository=repository, http=target.http, grpc=target.grpc, metrics=target.metrics)
    )
    command += [f"--model-repository={name}" for name in spec.more_repositories]
    log = directory / "server.log"
    with contextlib.ExitStack() as objects, log.open("wb") as sink:
        for name, content in CONTENTS.items():
            objects.enter_context(shared_object(name, content))
        process = subprocess.Popen(
            [*command, *spec.flags], stdout=sink, stderr=subprocess.STDOUT, cwd=directory, start_new_session=True
        )
        try:
            wait_until_settled(process, log)
            yield RunningServer(target, str(repository), log, process)
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks with SIGTERM; kills what is still there after the deadline, children included."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_settled(process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until the server says in its log that all models have been tried and everything listens."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(f"the server ended with status {process.returncode}:\n{log_tail(log)}")
        if STARTED.search(log.read_text(errors="replace")):
            return
        time.sleep(0.1)
    raise StartError(f"the server did not settle within {START_TIMEOUT_S:.0f} s:\n{log_tail(log)}")


def log_tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
