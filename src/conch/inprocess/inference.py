"""Requests as a program writes them, and the responses it iterates over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np

from conch.core.queue import RequestFuture
from conch.core.server import InferenceServer
from conch.errors import CancelledError, ConchError
from conch.inference import InferRequest, InferResponse, Parameter, RequestedOutput, checked_correlation_id
from conch.inprocess.tensors import ArrayLike, to_arrays, to_tensors
from conch.tensor import Tensor


@dataclass(kw_only=True)
class InferenceRequest:
    """One request to a model.

    Attributes:
        inputs: input name -> array, anything with `__dlpack__`, or a sequence. Arrays are not copied: leave them as
            they are until the last response is there.
        output_names: outputs to answer with; None for all.
        correlation_id: the sequence it belongs to; 0 or "" for none.
        flags: `conch.inference.SEQUENCE_START | SEQUENCE_END`.
        priority: 1 is the highest; 0 takes the model's default.
        timeout: microseconds it may wait in a queue; 0 takes the model's default.
    """

    inputs: Mapping[str, ArrayLike]
    output_names: Sequence[str] | None = None
    request_id: str = ""
    correlation_id: int | str = 0
    flags: int = 0
    priority: int = 0
    timeout: int = 0
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def for_model(self, name: str, version: str) -> InferRequest:
        """The request as the core takes it.

        Raises:
            InvalidArgumentError: inputs are no tensors, or the correlation id is no unsigned integer.
            UnsupportedError: the correlation id is too long.
        """
        return InferRequest(
            model_name=name,
            model_version=version,
            inputs=to_tensors(self.inputs),
            id=self.request_id,
            outputs=tuple(RequestedOutput(output) for output in self.output_names or ()),
            parameters=dict(self.parameters),
            correlation_id=checked_correlation_id(self.correlation_id),
            flags=self.flags,
            priority=self.priority,
            timeout_us=self.timeout,
        )


@dataclass(frozen=True)
class InferenceResponse:
    """One response.

    Attributes:
        outputs: output name -> read-only array; BYTES as objects of type `bytes`, BF16 as its uint16 bits.
        error: what went wrong, with iterators that do not raise.
        final: whether it is the last one.
        tensors: the outputs as the core has them, with their datatypes.
    """

    model_name: str
    model_version: str
    request_id: str
    outputs: Mapping[str, np.ndarray]
    parameters: Mapping[str, Parameter]
    error: ConchError | None = None
    final: bool = False
    tensors: tuple[Tensor, ...] = ()


class _Exchange:
    """One request under way, on the server's event loop.

    Args:
        deliver: called on that loop with every response; None says that there are no more.
    """

    def __init__(
        self, server: InferenceServer, request: InferRequest, deliver: Callable[[InferenceResponse | None], None]
    ) -> None:
        self._server = server
        self._request = request
        self._deliver = deliver
        self._future: RequestFuture | None = None
        self._over = False

    def start(self) -> None:
        """Hand the request to the server."""
        try:
            tracing = self._server.tracing
            request = tracing.begin(self._request) if tracing.active else self._request
            future = self._future = self._server.infer(request)
        except ConchError as error:
            self._end(error)
            return
        if future.done():
            self._settled(future)
        else:
            future.on_response = self._responded
            future.on_settled = self._settled

    def cancel(self) -> None:
        """Give the request up; what still comes is not delivered."""
        if self._future is not None and not self._over:
            self._future.cancel()
            self._end(CancelledError("request was cancelled"))

    def _responded(self, answer: InferResponse | ConchError) -> None:
        if not self._over:
            self._deliver(self._response(answer, final=False))

    def _settled(self, future: asyncio.Future[InferResponse]) -> None:
        if self._over:
            return
        if future.cancelled():
            self._end(CancelledError("request was cancelled"))
            return
        error = future.exception()
        if error is None:
            self._end(future.result())
        else:
            self._end(error if isinstance(error, ConchError) else ConchError(str(error)))

    def _end(self, answer: InferResponse | ConchError) -> None:
        self._over = True
        if isinstance(answer, ConchError) or not answer.empty:
            self._deliver(self._response(answer, final=True))
        self._deliver(None)

    def _response(self, answer: InferResponse | ConchError, *, final: bool) -> InferenceResponse:
        request = self._request
        if isinstance(answer, ConchError):
            return InferenceResponse(request.model_name, request.model_version, request.id, {}, {}, answer, final)
        return InferenceResponse(
            answer.model_name,
            answer.model_version,
            answer.id,
            to_arrays(answer.outputs),
            dict(answer.parameters),
            final=final,
            tensors=answer.outputs,
        )


class ResponseIterator:
    """The responses to one request as they come: one, or any number from a decoupled model.

    Args:
        loop: the server's.
        raise_on_error: raise a response's error instead of yielding the response.
    """

    def __init__(
        self,
        server: InferenceServer,
        request: InferRequest,
        loop: asyncio.AbstractEventLoop,
        *,
        raise_on_error: bool = True,
    ) -> None:
        self._arrived: SimpleQueue[InferenceResponse | None] = SimpleQueue()
        self._exchange = _Exchange(server, request, self._arrived.put)
        self._loop = loop
        self._raise_on_error = raise_on_error
        self._over = False
        loop.call_soon_threadsafe(self._exchange.start)

    def __iter__(self) -> ResponseIterator:
        return self

    def __next__(self) -> InferenceResponse:
        return self.next()

    def next(self, timeout_s: float | None = None) -> InferenceResponse:
        """The next response.

        Raises:
            StopIteration: there was none left.
            TimeoutError: none came within `timeout_s`; the request goes on.
            ConchError: the request failed.
        """
        if self._over:
            raise StopIteration
        try:
            response = self._arrived.get(timeout=timeout_s)
        except Empty:
            raise TimeoutError(f"no response within {timeout_s} s") from None
        if response is None:
            self._over = True
            raise StopIteration
        if response.error is not None and self._raise_on_error:
            raise response.error
        return response

    def cancel(self) -> None:
        """Give the request up. Its last response is then a CancelledError, unless it had ended already."""
        self._loop.call_soon_threadsafe(self._exchange.cancel)


class AsyncResponseIterator:
    """As `ResponseIterator`, for `async for` on the event loop it was made on (any but the server's)."""

    def __init__(
        self,
        server: InferenceServer,
        request: InferRequest,
        loop: asyncio.AbstractEventLoop,
        *,
        raise_on_error: bool = True,
    ) -> None:
        self._here = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[InferenceResponse | None] = asyncio.Queue()
        self._exchange = _Exchange(server, request, self._deliver)
        self._loop = loop
        self._raise_on_error = raise_on_error
        self._over = False
        loop.call_soon_threadsafe(self._exchange.start)

    def _deliver(self, response: InferenceResponse | None) -> None:
        if not self._here.is_closed():
            self._here.call_soon_threadsafe(self._arrived.put_nowait, response)

    def __aiter__(self) -> AsyncResponseIterator:
        return self

    async def __anext__(self) -> InferenceResponse:
        if self._over:
            raise StopAsyncIteration
        try:
            response = await self._arrived.get()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if response is None:
            self._over = True
            raise StopAsyncIteration
        if response.error is not None and self._raise_on_error:
            raise response.error
        return response

    def cancel(self) -> None:
        """Give the request up. Its last response is then a CancelledError, unless it had ended already."""
        self._loop.call_soon_threadsafe(self._exchange.cancel)
