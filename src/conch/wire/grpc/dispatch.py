"""Which call a stream becomes: the table of methods, and answers to what is no call of any of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from conch.tensor.tensor import Buffer
from conch.wire.grpc.calls import CallOptions, Parts, Pending, UnaryCall
from conch.wire.grpc.guard import Guard
from conch.wire.grpc.head import CallHead, Metadata, parse_head
from conch.wire.grpc.http2.frames import ErrorCode
from conch.wire.grpc.http2.hpack_cache import Headers
from conch.wire.grpc.http2.stream import NOBODY, Receiver, Stream
from conch.wire.grpc.outcome import http_error, trailers_only
from conch.wire.grpc.stream_call import StreamCall

logger = logging.getLogger("conch.wire.grpc")


class UnaryMethod(msgspec.Struct, frozen=True):
    """One message in, one out. `handle` may answer at once or leave the answer pending; it raises to fail the call."""

    path: str
    handle: Callable[[Buffer, Metadata], Parts | Pending]


class StreamMethod(msgspec.Struct, frozen=True):
    """Messages both ways: the call ends when `handle` returns (OK) or raises."""

    path: str
    handle: Callable[[StreamCall], Awaitable[None]]


Method = UnaryMethod | StreamMethod


class GrpcCalls:
    """Opens a call for every stream that `guard` lets through; what `Connection` serves."""

    def __init__(self, methods: Iterable[Method], options: CallOptions, guard: Guard | None = None) -> None:
        self._guard = guard
        self._methods = {method.path: method for method in methods}
        self._options = options
        self._tasks: set[asyncio.Future[Any]] = set()

    def parse(self, headers: Headers) -> CallHead:
        """See `parse_head`."""
        return parse_head(headers, self._methods)

    def open(self, stream: Stream, head: CallHead) -> Receiver:
        """The call a stream belongs to; a head that cannot be served is answered right away."""
        method = head.method
        if self._guard is not None and method is not None:
            refusal = self._guard.refusal(head.path, head.metadata)
            if refusal is not None:
                stream.finish(trailers_only(refusal.status, refusal.message))
                return NOBODY
        if type(method) is UnaryMethod:
            return UnaryCall(stream, head, self._options, self._tasks, method.handle)
        if type(method) is StreamMethod:
            return StreamCall(stream, head, self._options, self._tasks, method.handle)
        if head.malformed:
            logger.info("malformed request from %s: %s", stream.connection.peer, head.malformed)
            stream.reset(ErrorCode.PROTOCOL_ERROR)
        elif head.http_status:
            stream.finish(http_error(head.http_status))
        else:
            error = head.error
            assert error is not None
            stream.finish(trailers_only(error.status, error.message))
        return NOBODY

    async def unwind(self) -> None:
        """Wait until whatever works on calls that ended before their time has stopped."""
        while self._tasks:
            await asyncio.wait(self._tasks)
