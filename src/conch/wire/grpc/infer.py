"""ModelInfer and ModelStreamInfer: decode, ask the server, encode."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import partial

import msgspec

from conch.core.api import ServerApi
from conch.errors import ConchError, FailureReason, InvalidArgumentError
from conch.inference import InferRequest, InferResponse
from conch.tensor.tensor import Buffer
from conch.wire.codec.classification import classify
from conch.wire.grpc.calls import Parts, Pending
from conch.wire.grpc.codec import (
    FINAL_RESPONSE,
    RequestDecoder,
    ResponseEncoder,
    UndecodableRequest,
    encode_stream_error,
    encode_stream_response,
)
from conch.wire.grpc.dispatch import Method, StreamMethod, UnaryMethod
from conch.wire.grpc.head import Metadata
from conch.wire.grpc.methods import INFERENCE_SERVICE
from conch.wire.grpc.stream_call import StreamCall
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
        self.parts = encode_stream_error(cause.message, model_name, request_id, final)


class Inference:
    """Inference over gRPC.

    Args:
        server: answers.
        regions: the shared memory that tensors may lie in.
        header_forward_pattern: headers whose name it matches somewhere become request parameters; "" forwards none.
    """

    def __init__(self, server: ServerApi, regions: SharedMemoryRegions, header_forward_pattern: str) -> None:
        self._server = server
        self._regions = regions
        self._forward = re.compile(header_forward_pattern) if header_forward_pattern else None
        self._decoder = RequestDecoder(regions)
        self._encoder = ResponseEncoder()

    def methods(self) -> list[Method]:
        """What is served, by path."""
        return [
            UnaryMethod(f"/{INFERENCE_SERVICE}/ModelInfer", self._infer),
            StreamMethod(f"/{INFERENCE_SERVICE}/ModelStreamInfer", self._stream),
        ]

    def _infer(self, message: Buffer, metadata: Metadata) -> Parts | Pending:
        headers = self._forwarded(metadata) if self._forward is not None else _NO_HEADERS
        try:
            request = self._decoder.decode(message, headers)
        except UndecodableRequest as fault:
            raise self._explain(fault) from fault
        response = self._server.infer(request)
        for output in request.outputs:
            if output.classification or output.parameters:
                return Pending(response, partial(self._encode_as_asked, request))
        return Pending(response, self._encoder.encode)

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
        """Requests of a stream are worked on concurrently and answered in their order."""
        strict = ("triton_grpc_error", "true") in call.metadata
        answers: asyncio.Queue[asyncio.Task[Parts] | None] = asyncio.Queue()
        room = asyncio.Semaphore(_MAX_IN_FLIGHT)
        reader = asyncio.get_running_loop().create_task(self._read(call, answers, room))
        unanswered: asyncio.Task[Parts] | None = None
        try:
            while (unanswered := await answers.get()) is not None:
                try:
                    parts = await unanswered
                except _StreamError as error:
                    if strict and error.final:
                        raise error.cause from error
                    parts = error.parts
                await call.send(parts)
                room.release()
            await reader
        finally:
            reader.cancel()
            leftover: list[asyncio.Task[Parts] | None] = [unanswered]
            while not answers.empty():
                leftover.append(answers.get_nowait())
            given_up = [task for task in leftover if task is not None]
            for task in given_up:
                task.cancel()
            await asyncio.gather(reader, *given_up, return_exceptions=True)

    async def _read(
        self, call: StreamCall, answers: asyncio.Queue[asyncio.Task[Parts] | None], room: asyncio.Semaphore
    ) -> None:
        """Start on every request as it comes, while there is room; None after the last."""
        headers = self._forwarded(call.metadata) if self._forward is not None else _NO_HEADERS
        loop = asyncio.get_running_loop()
        try:
            async for message in call:
                await room.acquire()
                answers.put_nowait(loop.create_task(self._answer(message, headers)))
        finally:
            answers.put_nowait(None)

    async def _answer(self, message: Buffer, headers: Mapping[str, str]) -> Parts:
        """One request's answer on a stream.

        Raises:
            _StreamError: the request failed.
        """
        try:
            request = self._decoder.decode(message, headers)
        except UndecodableRequest as fault:
            raise _StreamError(self._explain(fault), "", fault.id, final=False) from fault
        try:
            answer = self._server.infer(request)
        except ConchError as error:
            raise _StreamError(error, "", request.id, final=False) from error
        try:
            response = await answer
            as_asked = self._placed(request, self._classified(request, response))
            return encode_stream_response(self._encoder.encode(as_asked, FINAL_RESPONSE))
        except ConchError as error:
            # Triton tells a request it did not accept from one whose model failed: only the latter is a response.
            final = error.reason is not FailureReason.OTHER
            raise _StreamError(error, request.model_name if final else "", request.id, final) from error
