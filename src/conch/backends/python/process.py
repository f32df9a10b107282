"""The child process of an instance: started, asked one thing at a time, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conch.backends.python.batch import CODES
from conch.backends.python.calls import ModelCalls
from conch.backends.python.channel import Channel
from conch.backends.python.environment import Launch
from conch.backends.python.output_lines import OutputLines
from conch.backends.python.readiness import ReadinessChecks
from conch.backends.python.stub.conch_stub import protocol
from conch.backends.python.stub.conch_stub.memory import create_file
from conch.errors import BackendError, Code, ConchError, InstanceDiedError, InternalError

logger = logging.getLogger(__name__)

_STUB_DIRECTORY = Path(__file__).parent / "stub"
_STUB_CODE = "import sys; sys.path.append(sys.argv.pop()); from conch_stub.main import run; run()"

#: How long the process may take to end by itself, and then to obey SIGTERM, before it is killed.
_EXIT_S = 5.0
_TERMINATE_S = 2.0

#: How often a child that is ending is looked at where there is no pidfd.
_POLL_S = 0.02

#: Takes an answer of the child, or the error that it will not come.
OnAnswer = Callable[[tuple[Any, ...] | ConchError], None]


class StubProcess:
    """A child process. Everything happens on the event loop that `start` was called on.

    Attributes:
        launch: how it was started.
        calls: the model's own calls.
        calls_channel: the socket they come through.
        readiness: asks the model whether it is ready.
        on_gone: called once when it has ended, however that came.
        inputs, outputs: descriptors of the shared memory files, open as long as the process lives.
        files: the socket that descriptors of other such files go through.
    """

    def __init__(self, launch: Launch, model_name: str) -> None:
        self.launch = launch
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self._waiting: OnAnswer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._death: ConchError | None = None
        self._closing = False
        self._vanished = False
        control, child_control = socket.socketpair()
        calls, child_calls = socket.socketpair()
        checks, child_checks = socket.socketpair()
        self.files, child_files = socket.socketpair()
        output, child_output = os.pipe()
        self.inputs = create_file("conch-inputs")
        self.outputs = create_file("conch-outputs")
        ends = child_control, child_calls, child_checks, child_files
        inherited = [*(end.fileno() for end in ends), self.inputs, self.outputs]
        try:
            self._process = _spawn(launch, inherited, child_output)
        except OSError as error:
            for end in (control, calls, checks, self.files):
                end.close()
            for descriptor in (output, self.inputs, self.outputs):
                os.close(descriptor)
            raise InternalError(f"the process of model '{model_name}' cannot be started: {error}") from error
        finally:
            for end in ends:
                end.close()
            os.close(child_output)
        self._control = Channel(control, self._answered, self._disconnected)
        self.calls_channel = Channel(calls, self._called, lambda: None)
        self.calls = ModelCalls(logging.getLogger(f"conch.model.{model_name}"), model_name, self.calls_channel.send)
        self.readiness = ReadinessChecks(checks, lambda: self.calls.name)
        self._output = OutputLines(output, self.calls.log_output)
        self._watch = _ExitWatch(self._process, self._on_exit)
        self._told = False
        #: Called once when it dies while nobody waits for an answer.
        self.on_idle_death: Callable[[ConchError], None] = lambda error: None
        #: What it died of while nobody waited for an answer.
        self.idle_death: ConchError | None = None
        self.on_gone: Callable[[ConchError], None] = lambda error: None

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._death is None

    def died_error(self) -> ConchError:
        """The error that requests to a dead process end with."""
        return self._death or InstanceDiedError(f"Stub process '{self.calls.name}' is not healthy.")

    def ask(self, message: tuple[Any, ...], on_answer: OnAnswer, timeout_s: float = 0.0, doing: str = "") -> None:
        """Send a message; `on_answer` is called exactly once, at once if the process is dead.

        A process that does not answer within `timeout_s` (0: no limit) is killed; the error says what it was `doing`.
        """
        if self._death is not None:
            on_answer(self._death)
            return
        self._waiting = on_answer
        if timeout_s:
            self._timer = self._loop.call_later(timeout_s, self._timed_out, timeout_s, doing)
        self._control.send(message)

    async def request(self, message: tuple[Any, ...], timeout_s: float, doing: str) -> Any:
        """Send a message and wait for the second item of the answer.

        Raises:
            ConchError: the model failed (its traceback is logged), died, or was killed as it took too long.
        """
        answered: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()

        def settle(answer: tuple[Any, ...] | ConchError) -> None:
            if answered.done():
                return
            if isinstance(answer, ConchError):
                answered.set_exception(answer)
            else:
                answered.set_result(answer)

        self.ask(message, settle, timeout_s, doing)
        answer = await answered
        if answer[0] == protocol.FAILED:
            raise self.failure(answer)
        return answer[1]

    def failure(self, answer: tuple[Any, ...], prefix: str = "") -> BackendError:
        """The error of a FAILED answer; the model's traceback goes to the log."""
        _, code, message, traceback = answer
        if traceback:
            self.calls.log_traceback(traceback)
        return BackendError(prefix + message, CODES[code])

    def kill(self, reason: ConchError | None = None) -> None:
        """Kill it and what it started. Whoever waits for an answer gets `reason` at once."""
        if self._exited.done():
            return
        if self._death is None:
            self._death = reason or self.died_error()
        self._signal(signal.SIGKILL)
        self._fail_waiting(self._death)

    async def close(self, finalize_s: float) -> None:
        """End it: finalize the model (0: do not), let the interpreter end, or else terminate it, or else kill it.

        A batch that is being executed is lost. Who gives up waiting for the model has it killed. Idempotent.
        """
        if self._waiting is not None:
            self.kill()
        elif self.alive and finalize_s:
            try:
                await self.request((protocol.FINALIZE,), finalize_s, "finalize()")
            except ConchError as error:
                logger.error("finalize of %s failed: %s", self.calls.name, error)
            except asyncio.CancelledError:
                self.kill()
                raise
        self._closing = True
        if self._death is None:
            self._death = self.died_error()
        self._control.close()
        self._watch.check()
        for patience_s, number in ((_EXIT_S, signal.SIGTERM), (_TERMINATE_S, signal.SIGKILL)):
            await asyncio.wait((self._exited,), timeout=patience_s)
            if self._exited.done():
                return
            self._signal(number)
        await asyncio.wait((self._exited,))

    def _answered(self, answer: Any) -> None:
        waiting, self._waiting = self._waiting, None
        if self._timer is not None:
            self._stop_timer()
        if waiting is None or not isinstance(answer, tuple) or len(answer) < 2:
            self.kill()
            return
        waiting(answer)

    def _called(self, call: Any) -> None:
        try:
            self.calls.serve(call)
        except (TypeError, ValueError, IndexError, KeyError, OSError) as error:
            logger.error("%s sent a call that is none: %s", self.calls.name, error)

    def _disconnected(self) -> None:
        """Its end of the socket is closed, or what came through was not ours: nothing more can be expected of it."""
        self._vanished = self._death is None and not self._closing
        self.kill()
        self._watch.check()

    def _timed_out(self, timeout_s: float, doing: str) -> None:
        self._timer = None
        late = self._waiting
        self._control.drain()  # the loop may have stood still itself, and the answer be there
        if self._waiting is not late:
            return
        self.kill(
            InstanceDiedError(
                f"{doing} of '{self.calls.name}' did not end within {timeout_s:g} s; its process was killed",
                Code.UNAVAILABLE,
            )
        )

    def _on_exit(self, returncode: int) -> None:
        """It is gone: take in what it still said, give up its descriptors, tell who waits."""
        self._control.drain()
        self.calls_channel.drain()
        if self._death is None:
            self._death = self.died_error()
        self._output.close()
        self._control.close()
        self.calls_channel.close()
        self.readiness.close()
        self.files.close()
        os.close(self.inputs)
        os.close(self.outputs)
        if self._vanished or not self._closing:
            ending = f"was killed by signal {-returncode}" if returncode < 0 else f"ended with status {returncode}"
            logger.error("%s: process %d %s", self.calls.name, self.pid, ending)
        self._exited.set_result(None)
        self.on_gone(self._death)
        self._fail_waiting(self._death)

    def _fail_waiting(self, error: ConchError) -> None:
        self._stop_timer()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._told = True
            waiting(error)
        elif not self._closing and not self._told:
            self._told = True
            self.idle_death = error
            self.on_idle_death(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _signal(self, number: signal.Signals) -> None:
        # It leads a session of its own: the group is also the processes the model started. Once it is reaped its
        # number may belong to another.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


class _ExitWatch:
    """Tells when a child ended, through a pidfd where there is one: sockets may live on in what the child forked."""

    def __init__(self, process: subprocess.Popen[bytes], on_exit: Callable[[int], None]) -> None:
        self._process = process
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._descriptor: int | None = None
        if hasattr(os, "pidfd_open"):
            self._descriptor = os.pidfd_open(process.pid)
            self._loop.add_reader(self._descriptor, self._ended)

    def check(self) -> None:
        """The child was killed or said good-bye: without a pidfd, look for its end from now on."""
        if self._descriptor is None and self._process.returncode is None:
            returncode = self._process.poll()
            if returncode is None:
                self._loop.call_later(_POLL_S, self.check)
            else:
                self._on_exit(returncode)

    def _ended(self) -> None:
        assert self._descriptor is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it left running; not reaped yet, so still its number
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._on_exit(self._process.wait())


def _spawn(launch: Launch, inherited: list[int], output: int) -> subprocess.Popen[bytes]:
    arguments = [str(os.getpid()), *map(str, inherited)]
    arguments += [launch.version_directory, launch.code, *launch.import_paths, str(_STUB_DIRECTORY)]
    return subprocess.Popen(
        [launch.interpreter, "-c", _STUB_CODE, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=inherited,
        env={**os.environ, **launch.environment},
        start_new_session=True,
    )
