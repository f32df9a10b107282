"""Requests of a model to other models (business logic scripting), and the models it loads and unloads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from conch.backend_api import OtherModels
from conch.backends.python.batch import NUMBERS, decode_tensors, encode_response
from conch.backends.python.calls import ModelCalls
from conch.backends.python.channel import Channel
from conch.backends.python.memory import ChildMemory, write
from conch.backends.python.stub.conch_stub import protocol
from conch.errors import BackendError, ConchError, InternalError
from conch.inference import InferRequest, InferResponse, Parameter, RequestedOutput, checked_correlation_id
from conch.trace import RequestTrace

_NO_PARAMETERS: Mapping[str, Parameter] = {}


class NestedRequests:
    """Serves such calls of one child.

    Args:
        channel: where the answers go.
        calls: answers the calls that have one plain answer.
        memory: the child's, for large tensors.
        find_trace: the trace of a request to the model, by the number of its execution and its position in it.
    """

    def __init__(
        self,
        models: OtherModels,
        channel: Channel,
        calls: ModelCalls,
        memory: ChildMemory,
        find_trace: Callable[[int, int], RequestTrace | None],
    ) -> None:
        self._models = models
        self._channel = channel
        self._calls = calls
        self._memory = memory
        self._find_trace = find_trace
        self._running: dict[int, Callable[[], object]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def services(self) -> Mapping[int, Callable[..., None]]:
        """What serves each kind of call."""
        return {
            protocol.INFER: self._infer,
            protocol.GIVE_UP: self._give_up,
            protocol.MODEL_READY: self._is_ready,
            protocol.LOAD_MODEL: self._load,
            protocol.UNLOAD_MODEL: self._unload,
        }

    def close(self) -> None:
        """The child is gone: give up what it waits for."""
        running, self._running = self._running, {}
        for give_up in running.values():
            give_up()
        for task in self._tasks:
            task.cancel()

    def _infer(
        self,
        number: int,
        request: tuple[Any, ...],
        model_name: str,
        model_version: int,
        decoupled: bool,
        released: tuple[int, ...],
        returned: tuple[int, ...],
        traced_for: tuple[int, int] | None,
    ) -> None:
        self._memory.inputs.lent.release(released)
        inputs, request_id, correlation_id, flags, timeout_us, parameters, outputs = request
        tensors = decode_tensors(inputs, self._memory)
        self._memory.loans.end(returned)
        try:
            give_up = self._models.infer(
                InferRequest(
                    model_name,
                    "" if model_version < 0 else str(model_version),
                    tensors,
                    request_id,
                    tuple(map(RequestedOutput, outputs)),
                    parameters or _NO_PARAMETERS,
                    checked_correlation_id(correlation_id),
                    flags,
                    0,
                    timeout_us,
                    trace=None if traced_for is None else self._part_of(*traced_for),
                ),
                decoupled,
                partial(self._answer, number),
            )
        except ConchError as error:
            text = f"Model {model_name} - Error when running inference: {error.message}"
            self._answer(number, BackendError(text, error.code), True)
        else:
            self._running[number] = give_up

    def _part_of(self, execution: int, position: int) -> RequestTrace | None:
        trace = self._find_trace(execution, position)
        return None if trace is None or trace.ended else trace.part()

    def _answer(self, number: int, response: InferResponse | ConchError, final: bool) -> None:
        if final:
            self._running.pop(number, None)
        if isinstance(response, ConchError):
            wire: Any = (NUMBERS[response.code], response.message, None)
            place = None
        elif response.empty:
            wire, place = None, None
        else:
            wire, large = encode_response(response, self._memory)
            place = None
            if large is not None:
                write(large.segment, large.places, large.data)
                place = (large.segment.offset, len(large.segment))
        retired, released = self._memory.inputs.lent.retire(), self._memory.outputs.take_released()
        loans = self._memory.loans.take_new()
        self._channel.send((number, final, protocol.OK, wire, place, retired, released, loans))

    def _give_up(self, number: int) -> None:
        give_up = self._running.pop(number, None)
        if give_up is not None:
            give_up()

    def _is_ready(self, number: int, name: str, version: str) -> None:
        self._answer_later(number, self._models.is_ready(name, version))

    def _load(self, number: int, name: str, config: str | None, files: Mapping[str, bytes]) -> None:
        self._answer_later(number, self._models.load(name, config, files))

    def _unload(self, number: int, name: str, unload_dependents: bool) -> None:
        self._answer_later(number, self._models.unload(name, unload_dependents))

    def _answer_later(self, number: int, wanted: Awaitable[bool | None]) -> None:
        async def answer() -> None:
            try:
                found = await wanted
            except ConchError as error:
                self._calls.answer(number, self._failed(error))
            else:
                self._calls.answer(number, found)

        task = asyncio.get_running_loop().create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _failed(self, error: ConchError) -> ConchError:
        return InternalError(f"Failed to process the request for model '{self._calls.name}', message: {error.message}")
