"""One batch in the child: from the message to the model and back."""

from __future__ import annotations

import sys
import time
from typing import Any

from .errors import TritonModelException
from .memory import Segment, SegmentPool, aligned
from .protocol import INLINE_MESSAGE_BYTES, INLINE_TENSOR_BYTES, OK
from .request import InferenceResponse, received_request
from .tensor import wire_data


class Executor:
    """Runs batches on a model.

    Args:
        inputs: descriptor of the file that large inputs lie in.
        outputs: descriptor of the file for large outputs.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        self._inputs = inputs
        self._segment: Segment | None = None
        self._references_at_rest = 0
        self._pool = SegmentPool(outputs)
        self._loop: Any = None

    def run(self, model: Any, message: tuple[Any, ...]) -> tuple[Any, ...]:
        """Execute the batch of an EXECUTE message; the answer to it.

        Raises:
            BaseException: whatever the model raised.
        """
        _, wire_requests, place, released = message
        self._pool.release(released)
        if place is not None:
            self._map_inputs(place)
        try:
            responses, start_ns, end_ns = self._respond(model, wire_requests, place is not None)
        except BaseException:
            # The traceback refers to the inputs, and who knows what else does: the server forgets the segment too.
            self._segment = None
            raise
        # Arrays over shared memory refer to the segment. Where the model still holds one, the server must not reuse
        # that memory; the model keeps it for as long as it likes.
        kept = place is not None and self._references() > self._references_at_rest
        if kept:
            self._segment = None
        return (OK, responses, kept, self._pool.retire(), start_ns, end_ns)

    def _map_inputs(self, place: tuple[int, int]) -> None:
        offset, size = place
        if self._segment is None or self._segment.offset != offset:
            self._segment = Segment.map(self._inputs, offset, size, gives_pages_back=True)
            self._references_at_rest = self._references()

    def _references(self) -> int:
        return sys.getrefcount(self._segment)

    def _respond(
        self, model: Any, wire_requests: tuple[Any, ...], uses_segment: bool
    ) -> tuple[tuple[Any, ...], int, int]:
        segment = self._segment if uses_segment else None
        requests = [received_request(wire, segment) for wire in wire_requests]
        start_ns = time.monotonic_ns()
        responses = model.execute(requests)
        if hasattr(responses, "__await__"):
            responses = self._wait(responses)
        end_ns = time.monotonic_ns()
        if type(responses) is not list and not isinstance(responses, list):
            raise TritonModelException(f"Expected a list in the execute return, found type '{type(responses)}'.")
        if len(responses) != len(wire_requests):
            raise TritonModelException(
                "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
                f"InferenceRequest(s) size is:{len(wire_requests)}, and InferenceResponse(s) size is:{len(responses)}"
            )
        return self._encode(responses, wire_requests), start_ns, end_ns

    def _wait(self, awaitable: Any) -> Any:
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)

        async def finished() -> Any:
            return await awaitable

        return self._loop.run_until_complete(finished())

    def _encode(self, responses: list[Any], wire_requests: tuple[Any, ...]) -> tuple[Any, ...]:
        encoded: list[tuple[Any, ...]] = []
        large: list[tuple[list[Any], int, Any]] = []
        inline_bytes = 0
        for response, request in zip(responses, wire_requests):  # noqa: B905 (strict= is of Python 3.10)
            if not isinstance(response, InferenceResponse):
                raise TritonModelException(
                    "Expected an 'InferenceResponse' object in the execute function return list, found type "
                    f"'{type(response)}'."
                )
            error = response._error
            if error is not None:
                encoded.append((int(error._code), error._message, None))
                continue
            wanted = request[6]
            tensors: list[Any] = []
            for tensor in response._tensors:
                if wanted is not None and tensor._name not in wanted:
                    continue
                data = wire_data(tensor)
                size = len(data) if type(data) is bytes else data.nbytes
                if size > INLINE_TENSOR_BYTES or inline_bytes + size > INLINE_MESSAGE_BYTES:
                    large.append((tensors, len(tensors), data))
                else:
                    inline_bytes += size
                tensors.append((tensor._name, tensor._datatype, tensor._shape, data))
            encoded.append((None, tensors, response._parameters))
        if large:
            self._place(large)
        return tuple(encoded)

    def _place(self, large: list[tuple[list[Any], int, Any]]) -> None:
        """Copy large tensors into one shared segment and put their places into the messages instead."""
        sizes = [len(data) if type(data) is bytes else data.nbytes for _, _, data in large]
        segment = self._pool.take(sum(aligned(size) for size in sizes))
        start = 0
        for (tensors, position, data), size in zip(large, sizes):  # noqa: B905
            if size:
                segment[start : start + size] = data if type(data) is bytes else memoryview(data).cast("B")
            name, datatype, shape, _ = tensors[position]
            tensors[position] = (name, datatype, shape, (segment.offset, len(segment), start, size))
            start += aligned(size)
