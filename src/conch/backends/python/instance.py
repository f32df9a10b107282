"""An instance: batches to messages, answers to results, a new process after a death."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from conch.backend_api import BatchFuture, BatchResult, InstanceSpec, ResponseSink
from conch.backends.python.batch import decode_response, decode_responses, encode_requests
from conch.backends.python.environment import Launch
from conch.backends.python.loans import Loans, OutputArena
from conch.backends.python.memory import ChildMemory, InputArena, write
from conch.backends.python.nested import NestedRequests
from conch.backends.python.process import StubProcess
from conch.backends.python.replies import Replies
from conch.backends.python.settings import Timeouts
from conch.backends.python.stub.conch_stub import protocol
from conch.config.json_format import to_json
from conch.errors import ConchError, InstanceDiedError
from conch.inference import InferRequest
from conch.trace import RequestTrace

logger = logging.getLogger(__name__)

#: Copies of more bytes are made in a thread, so that the event loop does not stand still.
_LOOP_COPY_BYTES = 8 << 20


class PythonInstance:
    """One `TritonPythonModel` in a process of its own.

    Attributes:
        closed: whether it was closed for good.
    """

    def __init__(self, spec: InstanceSpec, launch: Launch, timeouts: Timeouts) -> None:
        self._spec = spec
        self._launch = launch
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._process: StubProcess | None = None
        self.closed = False
        self._tell_idle_death: Callable[[ConchError], None] = lambda error: None
        self._replies = Replies()
        self._unnumbered: Sequence[InferRequest] = ()

    @property
    def pid(self) -> int | None:
        """The process id of the child, None without one."""
        return self._process.pid if self._process is not None else None

    async def start(self, process: StubProcess) -> None:
        """Initialize the model in that process, which belongs to this instance from now on.

        Raises:
            ConchError: `initialize` failed, died or took too long; the process is gone.
        """
        self._process = process
        process.on_idle_death = lambda error: self._tell_idle_death(error)
        process.calls.name = self._spec.name
        self._memory = ChildMemory(InputArena(process.inputs), OutputArena(process.outputs), Loans(process.files))
        self._serve_calls(process)
        outputs = tuple(output.name for output in self._spec.config.output)
        message = (protocol.INITIALIZE, self._arguments(), outputs, self._spec.config.decoupled)
        try:
            process.readiness.wanted = await process.request(message, self._timeouts.initialize_s, "initialize()")
        except BaseException:
            process.kill()
            await process.close(0)
            raise

    def _serve_calls(self, process: StubProcess) -> None:
        services: dict[int, Callable[..., None]] = {
            protocol.RESPONSE: self._on_response,
            protocol.EXECUTION_FAILED: self._on_execution_failed,
            protocol.CANCELLED: self._on_cancelled_query,
            protocol.TRACE_CONTEXT: self._on_context_query,
            protocol.TAKEN: self._on_taken_query,
        }
        nested = None
        if self._spec.models is not None:
            nested = NestedRequests(self._spec.models, process.calls_channel, process.calls, self._memory, self._trace)
            services.update(nested.services)
        process.calls.attach(self._spec.metrics, services)

        memory = self._memory

        def gone(error: ConchError) -> None:
            memory.outputs.close()
            memory.loans.close()
            self._replies.fail_open(error)
            if nested is not None:
                nested.close()

        process.on_gone = gone

    def execute(self, requests: Sequence[InferRequest]) -> Awaitable[BatchResult]:
        """Run one batch; see the port."""
        self._unnumbered = requests
        return self._run(requests, -1)

    def execute_into(self, requests: Sequence[InferRequest], sinks: Sequence[ResponseSink]) -> Awaitable[BatchResult]:
        """Run one batch whose requests the model may answer by itself; see the port."""
        return self._run(requests, self._replies.begin(sinks))

    def _run(self, requests: Sequence[InferRequest], number: int) -> Awaitable[BatchResult]:
        result = BatchFuture(loop=self._loop)
        process = self._process
        if process is None or not process.alive:
            result.fail(self._dead_error())
            return result
        started_ns = time.monotonic_ns()
        encoded, large = encode_requests(requests, self._memory)
        place = None if large is None else (large.segment.offset, len(large.segment))
        released, loans = self._memory.outputs.take_released(), self._memory.loans.take_new()
        windows = tuple([request.response_window for request in requests]) if self._spec.config.decoupled else ()
        message = (protocol.EXECUTE, encoded, place, released, number, loans, windows)
        on_answer = partial(self._finish, result, len(requests), place, started_ns)
        limit_s = self._timeouts.execute_s
        if large is not None:
            if large.byte_size > _LOOP_COPY_BYTES:
                copied = self._loop.run_in_executor(None, write, large.segment, large.places, large.data)
                copied.add_done_callback(lambda _: process.ask(message, on_answer, limit_s, "execute()"))
                return result
            write(large.segment, large.places, large.data)
        process.ask(message, on_answer, limit_s, "execute()")
        return result

    def on_idle_death(self, callback: Callable[[ConchError], None]) -> None:
        """See the port."""
        self._tell_idle_death = callback
        if self._process is not None and self._process.idle_death is not None:
            self._loop.call_soon(callback, self._process.idle_death)

    async def is_ready(self) -> bool:
        """Whether the model says so; one without an `is_ready` is."""
        process = self._process
        return process is not None and process.alive and await process.readiness.ask(self._timeouts.readiness_s)

    async def restart(self) -> None:
        """Start another process in place of the dead one."""
        if self.closed:
            raise InstanceDiedError(f"instance '{self._spec.name}' is closed")
        if self._process is not None:
            await self._process.close(0)
        await self.start(StubProcess(self._launch, self._spec.source.name))

    async def close(self) -> None:
        """Finalize the model and end its process."""
        self.closed = True
        if self._process is not None:
            await self._process.close(self._timeouts.finalize_s)

    def _finish(
        self,
        result: BatchFuture,
        count: int,
        place: tuple[int, int] | None,
        started_ns: int,
        answer: tuple[Any, ...] | ConchError,
    ) -> None:
        """Settle a batch with the child's answer, or with the error that there is none."""
        process = self._process
        assert process is not None
        outcome: BatchResult | ConchError
        if isinstance(answer, ConchError):
            self._replies.abandon()
            outcome = answer
        elif answer[0] == protocol.FAILED:
            if place is not None:
                self._memory.inputs.forget()  # the model may still hold the inputs
            process.calls_channel.drain()  # what was answered before
            self._replies.abandon()
            outcome = process.failure(answer, self._failure_prefix)
        else:
            try:
                outcome = self._decode(answer, count, started_ns)
            except (ValueError, TypeError, KeyError, IndexError, OSError) as error:
                logger.error("%s answered a batch with what is no answer: %r", self._spec.name, error)
                process.kill()
                outcome = self._dead_error()
        if result.done():
            return
        if isinstance(outcome, ConchError):
            result.fail(outcome)
        else:
            result.succeed(outcome)

    def _decode(self, answer: tuple[Any, ...], count: int, started_ns: int) -> BatchResult:
        _, responses, inputs_kept, retired, start_ns, end_ns, returned = answer
        memory = self._memory
        if inputs_kept:
            memory.inputs.forget()
        if retired:
            memory.outputs.retire(retired)
        if len(responses) != count:
            raise ValueError(f"{len(responses)} responses to {count} requests")
        outputs = decode_responses(responses, memory)
        if returned:
            assert self._process is not None
            self._process.calls_channel.drain()  # what was passed on before
            memory.loans.end(returned)
        for response in responses:
            if type(response) is int:
                assert self._process is not None
                self._process.calls_channel.drain()  # what was answered before
                self._replies.end(outputs)
                break
        else:
            self._replies.abandon()
        now_ns = time.monotonic_ns()
        return BatchResult(outputs, start_ns - started_ns, end_ns - start_ns, now_ns - end_ns)

    def _on_response(self, number: int, position: int, final: bool, response: Any, returned: tuple[int, ...]) -> None:
        outcome = None if response is None else decode_response(response, self._memory)
        self._memory.loans.end(returned)
        self._replies.send(number, position, outcome, bool(final))
        del outcome
        released = self._memory.outputs.take_released()
        if released:
            assert self._process is not None
            self._process.calls_channel.send((protocol.RELEASED, released))

    def _on_execution_failed(self, number: int, cause: str, traceback: str) -> None:
        assert self._process is not None
        failure = self._process.failure((protocol.FAILED, 1, cause, traceback), self._failure_prefix)
        self._replies.fail(number, failure)

    def _on_cancelled_query(self, call: int, number: int, position: int) -> None:
        assert self._process is not None
        self._process.calls.answer(call, self._replies.is_cancelled(number, position))

    def _on_taken_query(self, call: int, number: int, position: int, count: int) -> None:
        assert self._process is not None
        self._replies.when_taken(number, position, count, partial(self._process.calls.answer, call))

    def _on_context_query(self, call: int, number: int, position: int) -> None:
        assert self._process is not None
        trace = self._trace(number, position)
        self._process.calls.answer(call, None if trace is None else trace.context() or None)

    def _trace(self, number: int, position: int) -> RequestTrace | None:
        """The trace of a request under execution, or open after it; the number of the execution as the child has it."""
        if number < 0:
            return self._unnumbered[position].trace if position < len(self._unnumbered) else None
        return self._replies.trace(number, position)

    @property
    def _failure_prefix(self) -> str:
        return f"Failed to process the request(s) for model '{self._spec.name}', message: "

    def _dead_error(self) -> ConchError:
        if self._process is not None:
            return self._process.died_error()
        return InstanceDiedError(f"Stub process '{self._spec.name}' is not healthy.")

    def _arguments(self) -> dict[str, str]:
        """The `args` of initialize(): strings all, as Triton gives them."""
        spec = self._spec
        return {
            "model_config": to_json(spec.config.message),
            "model_instance_kind": spec.kind,
            "model_instance_name": spec.name,
            "model_instance_device_id": str(spec.device_id),
            "model_repository": self._launch.model_directory,
            "model_version": str(spec.source.version),
            "model_name": spec.source.name,
        }
