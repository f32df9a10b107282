"""ModelInfer and ModelStreamInfer: decode, ask the server, encode."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial

import msgspec

from conch.core.api import ServerApi
from conch.core.queue import RequestFuture
from conch.errors import ConchError, InvalidArgumentError, UnsupportedError
from conch.inference import InferRequest, InferResponse
from conch.tensor.tensor import Buffer
from conch.trace import RequestTrace
from conch.wire.codec.classification import classify
from conch.wire.codec.forwarding import header_pattern
from conch.wire.grpc.calls import Parts, Pending
from conch.wire.grpc.delays import Delays, late
from conch.wire.grpc.dispatch import Method, StreamMethod, UnaryMethod
from conch.wire.grpc.head import Metadata
from conch.wire.grpc.methods import INFERENCE_SERVICE
from conch.wire.grpc.request_decoder import RequestDecoder, UndecodableRequest
from conch.wire.grpc.response_encoder import (
    FINAL_RESPONSE,
    FURTHER_RESPONSE,
    ResponseEncoder,
    encode_stream_error,
    encode_stream_response,
)
from conch.wire.grpc.stream_call import StreamCall
from conch.wire.grpc.streamed import StreamedAnswer
from conch.wire.grpc.tensor_areas import output_areas
from conch.wire.shared_memory import SharedMemoryRegions

_NO_HEADERS: Mapping[str, str] = {}

#: Requests of one stream that may be in the server at once; further ones are not read before.
_MAX_IN_FLIGHT = 1024


class _StreamError(Exception):
    """One request of a stream failed for `cause`; `parts` is the message that says so within the stream.

    `final`: it was accepted and its execution failed, so that this is the answer to it.
    """

    def __init__(self, cause: ConchError, model_name: str, request_id: str, final: bool) -> None:
        super().__init__(cause.message)
        self.cause = cause
        self.final = final
        self.parts = encode_stream_error(cause.message, model_name, request_id, FINAL_RESPONSE if final else b"")


class Inference:
    """Inference over gRPC.

    Args:
        server: answers.
        regions: the shared memory that tensors may lie in.
        header_forward_pattern: headers whose name it matches somewhere, case ignored, become request parameters; ""
            forwards none.
        delays: how long calls are held up.

    Raises:
        InvalidArgumentError: the pattern is no regular expression.
    """

    def __init__(
        self, server: ServerApi, regions: SharedMemoryRegions, header_forward_pattern: str, delays: Delays
    ) -> None:
        self._server = server
        self._regions = regions
        self._forward = header_pattern(header_forward_pattern)
        self._decoder = RequestDecoder(regions)
        self._encoder = ResponseEncoder()
        self._delays = delays
        self._pause = delays.before_response if delays.response_s or delays.complete_s else None

    def methods(self) -> list[Method]:
        """What is served, by path."""
        infer = UnaryMethod(f"/{INFERENCE_SERVICE}/ModelInfer", self._infer)
        return [
            late(infer, self._delays) if self._delays.process_s else infer,
            StreamMethod(f"/{INFERENCE_SERVICE}/ModelStreamInfer", self._stream),
        ]

    def _infer(self, message: Buffer, metadata: Metadata) -> Parts | Pending:
        headers = self._forwarded(metadata) if self._forward is not None else _NO_HEADERS
        try:
            request = self._decoder.decode(message, headers)
        except UndecodableRequest as fault:
            raise self._explain(fault) from fault
        if self._is_decoupled(request):
            raise UnsupportedError("ModelInfer RPC doesn't support models with decoupled transaction policy")
        if self._server.tracing.active:
            trace = self._server.tracing.sample(request.model_name, _traceparent(metadata))
            if trace is not None:
                return self._traced(trace, request)
        response = self._server.infer(request)
        for output in request.outputs:
            if output.classification or output.parameters:
                return Pending(response, partial(self._encode_as_asked, request))
        return Pending(response, self._encoder.encode)

    def _traced(self, trace: RequestTrace, request: InferRequest) -> Pending:
        trace.at("GRPC_WAITREAD_START")
        trace.at("GRPC_WAITREAD_END")

        def send(response: InferResponse) -> Parts:
            trace.at("GRPC_SEND_START")
            parts = self._encode_as_asked(request, response)
            trace.at("GRPC_SEND_END")
            trace.end()
            return parts

        return Pending(self._server.infer(msgspec.structs.replace(request, trace=trace)), send)

    def _encode_as_asked(self, request: InferRequest, response: InferResponse) -> Parts:
        return self._encoder.encode(self._placed(request, self._classified(request, response)))

    def _placed(self, request: InferRequest, response: InferResponse) -> InferResponse:
        """The response without the data of the outputs that shall lie in shared memory, once it is there."""
        areas = output_areas(request.outputs)
        if not areas:
            return response
        self._regions.take_outputs(response.outputs, areas)
        outputs = tuple(
            msgspec.structs.replace(tensor, data=b"") if tensor.name in areas else tensor for tensor in response.outputs
        )
        return msgspec.structs.replace(response, outputs=outputs)

    def _classified(self, request: InferRequest, response: InferResponse) -> InferResponse:
        """The response with the top classes in place of the outputs for which they were asked."""
        wanted = {output.name: output.classification for output in request.outputs if output.classification}
        if not wanted:
            return response
        view = self._server.model(response.model_name, response.model_version)
        batched = view.config.max_batch_size > 0
        outputs = tuple(
            classify(tensor, wanted[tensor.name], partial(view.label, tensor.name), batched)
            if tensor.name in wanted
            else tensor
            for tensor in response.outputs
        )
        return msgspec.structs.replace(response, outputs=outputs)

    def _forwarded(self, metadata: Metadata) -> Mapping[str, str]:
        forward = self._forward
        assert forward is not None
        return {name: value for name, value in metadata if isinstance(value, str) and forward.search(name)}

    def _explain(self, fault: UndecodableRequest) -> ConchError:
        """What to tell the client: that there is no such model, before what is wrong with the request for it."""
        try:
            view = self._server.model(fault.model_name, fault.model_version)
        except ConchError as error:
            return error
        for tensor in view.config.input:
            if tensor.name == fault.invalid_datatype_of:
                return InvalidArgumentError(
                    f"[request id: {fault.id or '<id_unknown>'}] inference input '{tensor.name}' data-type is "
                    f"'<invalid>', but model '{fault.model_name}' expects '{tensor.data_type.value}'"
                )
        return fault.error

    async def _stream(self, call: StreamCall) -> None:
        """Requests of a stream are worked on concurrently and answered in their order.

        Those of decoupled models are answered when their responses come.
        """
        strict = ("triton_grpc_error", "true") in call.metadata
        work = _StreamWork()
        reader = asyncio.get_running_loop().create_task(self._read(call, work))
        unanswered: asyncio.Task[Parts | None] | None = None
        try:
            while (unanswered := await work.next()) is not None:
                try:
                    parts = await unanswered
                except _StreamError as error:
                    if strict and error.final:
                        raise error.cause from error
                    parts = error.parts
                if parts is not None:
                    await call.send(parts)
                work.room.release()
            await reader
        finally:
            reader.cancel()
            given_up = [task for task in (unanswered, *work.left()) if task is not None]
            for task in given_up:
                task.cancel()
            await asyncio.gather(reader, *given_up, return_exceptions=True)

    async def _read(self, call: StreamCall, work: _StreamWork) -> None:
        """Start on every request as it comes, while there is room."""
        headers = self._forwarded(call.metadata) if self._forward is not None else _NO_HEADERS
        loop = asyncio.get_running_loop()
        try:
            async for message in call:
                await work.room.acquire()
                try:
                    request = self._decoder.decode(message, headers)
                    decoupled = self._is_decoupled(request)
                    if self._server.tracing.active:
                        request = self._server.tracing.begin(request, _traceparent(call.metadata))
                    answer = self._server.infer(request)
                except UndecodableRequest as fault:
                    work.add(loop.create_task(_refuse(self._explain(fault), fault.id)))
                except ConchError as error:
                    work.add(loop.create_task(_refuse(error, request.id)))
                else:
                    if decoupled and isinstance(answer, RequestFuture):
                        streamed = StreamedAnswer(
                            call,
                            answer,
                            partial(self._encode_further, request),
                            partial(self._encode_last, request),
                            self._pause,
                        )
                        task = loop.create_task(self._answer(request, streamed.last()))
                        work.add_streamed(task)
                    else:
                        told = self._delays.completed(answer) if self._delays.complete_s else answer
                        task = loop.create_task(self._answer(request, told))
                        work.add(task)
                    if isinstance(answer, asyncio.Future):
                        task.add_done_callback(partial(_give_up, answer))
        finally:
            work.end()

    async def _answer(self, request: InferRequest, answer: Awaitable[InferResponse | None]) -> Parts | None:
        """The last answer to a request on a stream; None where nothing is left to say.

        Raises:
            _StreamError: the request failed.
        """
        try:
            response = await answer
            return None if response is None else self._encode_last(request, response)
        except ConchError as error:
            # The request was accepted: as in Triton its error is a response, unlike that of a refusal.
            raise _StreamError(error, request.model_name, request.id, final=True) from error

    def _encode_last(self, request: InferRequest, response: InferResponse) -> Parts | None:
        """The last response; None where nothing is left to say. Raises ConchError."""
        if response.empty:
            if not request.empty_final:
                return None
            response = msgspec.structs.replace(response, model_version="")  # as in Triton
        as_asked = self._placed(request, self._classified(request, response))
        return encode_stream_response(self._encoder.encode(as_asked, FINAL_RESPONSE))

    def _encode_further(self, request: InferRequest, response: InferResponse | ConchError) -> Parts:
        """A response after which others come."""
        if not isinstance(response, ConchError):
            try:
                as_asked = self._placed(request, self._classified(request, response))
                return encode_stream_response(self._encoder.encode(as_asked, FURTHER_RESPONSE))
            except ConchError as error:
                response = error
        return encode_stream_error(response.message, request.model_name, request.id, FURTHER_RESPONSE)

    def _is_decoupled(self, request: InferRequest) -> bool:
        return self._server.model(request.model_name, request.model_version).config.decoupled


def _give_up(answer: asyncio.Future[InferResponse], _: asyncio.Future[Parts | None]) -> None:
    answer.cancel()  # nothing happens to one that is there


async def _refuse(error: ConchError, request_id: str) -> Parts:
    raise _StreamError(error, "", request_id, final=False) from error


class _StreamWork:
    """The requests of one stream that are not answered yet."""

    def __init__(self) -> None:
        self.room = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self._answers: asyncio.Queue[asyncio.Task[Parts | None] | None] = asyncio.Queue()
        self._streamed: set[asyncio.Task[Parts | None]] = set()
        self._ended = False

    def add(self, task: asyncio.Task[Parts | None]) -> None:
        """A request whose answer has its turn after those before it."""
        self._answers.put_nowait(task)

    def add_streamed(self, task: asyncio.Task[Parts | None]) -> None:
        """A request whose last answer has its turn when it is there."""
        self._streamed.add(task)
        task.add_done_callback(self._on_last)

    def end(self) -> None:
        """No more requests will come."""
        self._ended = True
        self._answers.put_nowait(None)

    async def next(self) -> asyncio.Task[Parts | None] | None:
        """The request to answer next; None after the last one."""
        while True:
            task = await self._answers.get()
            if task is not None:
                return task
            if self._ended and not self._streamed and self._answers.empty():
                return None

    def left(self) -> list[asyncio.Task[Parts | None]]:
        """What nobody will answer any more."""
        queued = [self._answers.get_nowait() for _ in range(self._answers.qsize())]
        return [*(task for task in queued if task is not None), *self._streamed]

    def _on_last(self, task: asyncio.Task[Parts | None]) -> None:
        self._streamed.discard(task)
        self._answers.put_nowait(task)
        if self._ended:
            self._answers.put_nowait(None)


def _traceparent(metadata: Metadata) -> str:
    """The client's W3C trace context, "" for none."""
    return next((value for name, value in metadata if name == "traceparent" and isinstance(value, str)), "")
