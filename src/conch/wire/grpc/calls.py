"""gRPC calls on HTTP/2 streams: deadline, cancellation, and the call with one message each way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec

from conch.core.queue import RequestFuture
from conch.tensor.memory import Allocate, heap_memory
from conch.tensor.tensor import Buffer
from conch.wire.grpc.head import CallHead, Metadata
from conch.wire.grpc.http2.stream import Stream
from conch.wire.grpc.messages import MessageReader, check_size, frame_message
from conch.wire.grpc.outcome import (
    OK_TRAILERS,
    RESPONSE_HEAD,
    RpcError,
    Status,
    outcome_of,
    response_head,
    trailers_only,
)

logger = logging.getLogger("conch.wire.grpc")

#: A serialized message as pieces to be written one after the other.
Parts = list[Buffer]


class Pending(msgspec.Struct, frozen=True, gc=False):
    """An answer that is not there yet: `encode` makes the message of what the awaitable gives."""

    awaitable: Awaitable[Any]
    encode: Callable[[Any], Parts]


class CallOptions(msgspec.Struct, frozen=True):
    """What holds for every call.

    Attributes:
        max_message_bytes: limit of a request message, compressed and decompressed.
        compression_level: zlib level of answers to clients that understand compression; 0 for off.
        allocate: makes room for large messages.
    """

    max_message_bytes: int = 2**31 - 1
    compression_level: int = 0
    allocate: Allocate = heap_memory

    def reader(self, encoding: str) -> MessageReader:
        """Reads the messages of a call whose client compresses them like that."""
        return MessageReader(encoding, self.max_message_bytes, self.allocate)


class Call:
    """What both kinds of calls share: the deadline, the encoding of answers, and ending exactly once.

    `tasks` collects what may outlive the call.
    """

    __slots__ = ("_level", "_options", "_over", "_reader", "_tasks", "_timer", "head", "stream")

    def __init__(self, stream: Stream, head: CallHead, options: CallOptions, tasks: set[asyncio.Future[Any]]) -> None:
        self._tasks = tasks
        self.stream = stream
        self.head = head
        self._options = options
        self._over = False
        self._reader: MessageReader | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._level = options.compression_level
        if head.timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(head.timeout_s, self._expire)

    @property
    def _encoding(self) -> str:
        """How answers are compressed: gzip before deflate, "" for a client that understands neither."""
        for encoding in ("gzip", "deflate"):
            if encoding in self.head.accept_encoding:
                return encoding
        return ""

    def _expire(self) -> None:
        if not self._over:
            self._log_cancellation("deadline exceeded")
            self._cancel()
            self._fail(Status.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _log_cancellation(self, why: str) -> None:
        logger.debug("Cancellation notification received for %s, stream %d (%s)", self.head.path, self.stream.id, why)

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()

    def _cancel(self) -> None:
        """Give up what works on the answer."""
        raise NotImplementedError

    def _fail(self, status: Status, message: str) -> None:
        raise NotImplementedError

    def _fail_with(self, error: BaseException) -> None:
        """End the call with an error; one that nobody foresaw is logged and told to the client without details."""
        outcome = outcome_of(error)
        if outcome is None:
            logger.error("%s failed unexpectedly", self.head.path, exc_info=error)
            outcome = Status.INTERNAL, f"unexpected {type(error).__name__}; see the server's log"
        self._fail(*outcome)


class UnaryCall(Call):
    """A call with one message each way. Costs no task: the answer's future calls back."""

    __slots__ = ("_encode", "_future", "_handle", "_message")

    def __init__(
        self,
        stream: Stream,
        head: CallHead,
        options: CallOptions,
        tasks: set[asyncio.Future[Any]],
        handle: Callable[[Buffer, Metadata], Parts | Pending],
    ) -> None:
        super().__init__(stream, head, options, tasks)
        self._handle = handle
        self._message: Buffer | None = None
        self._future: asyncio.Future[Any] | None = None

    def on_data(self, chunk: Buffer, end: bool) -> None:
        if self._over:
            return
        try:
            if end and self._reader is None:
                size = len(chunk) - 5
                if size >= 0 and chunk[0] == 0 and int.from_bytes(chunk[1:5]) == size:
                    check_size(size, self._options.max_message_bytes)
                    self._start(chunk[5:])
                    return
            reader = self._reader
            if reader is None:
                reader = self._reader = self._options.reader(self.head.encoding)
            self._take(reader, reader.feed(chunk), end)
        except RpcError as error:
            self._fail(error.status, error.message)

    def place(self, size: int) -> memoryview | None:
        return self._reader.place(size) if self._reader is not None and not self._over else None

    def on_placed(self, size: int, end: bool) -> None:
        if self._over or self._reader is None:
            return
        try:
            self._take(self._reader, self._reader.advance(size), end)
        except RpcError as error:
            self._fail(error.status, error.message)

    def _take(self, reader: MessageReader, messages: Iterator[Buffer], end: bool) -> None:
        """The slow path: the message comes in pieces, or compressed."""
        for message in messages:
            if self._message is not None:
                raise RpcError(Status.UNIMPLEMENTED, f"'{self.head.path}' takes one message, got more")
            self._message = message
        if not end:
            self.stream.replenish(reader.needed)
        elif self._message is None or reader.in_message:
            raise RpcError(Status.INTERNAL, "the request ended before its message was complete")
        else:
            message, self._message = self._message, None
            self._start(message)

    def _start(self, message: Buffer) -> None:
        try:
            answer = self._handle(message, self.head.metadata)
        except Exception as error:
            self._fail_with(error)
            return
        if type(answer) is Pending:
            self._encode = answer.encode
            awaitable = answer.awaitable
            if type(awaitable) is RequestFuture and not awaitable.done():
                self._future = awaitable
                awaitable.on_settled = self._done
                return
            future = self._future = asyncio.ensure_future(awaitable)
            future.add_done_callback(self._done)
        else:
            assert isinstance(answer, list)
            self._reply(answer)

    def _done(self, future: asyncio.Future[Any]) -> None:
        if self._over:
            if not future.cancelled():
                future.exception()  # nobody waits for it any more
            return
        self._future = None
        try:
            parts = self._encode(future.result())
        except asyncio.CancelledError:
            self._fail(Status.CANCELLED, "the server gave the request up")
        except Exception as error:
            self._fail_with(error)
        else:
            self._reply(parts)

    def _reply(self, parts: Parts) -> None:
        encoding = self._encoding if self._level else ""
        try:
            framed, size = frame_message(parts, encoding, self._level if encoding else 0)
        except RpcError as error:
            self._fail(error.status, error.message)
            return
        self._end()
        self.stream.reply(response_head(encoding) if encoding else RESPONSE_HEAD, framed, size, OK_TRAILERS)

    def _fail(self, status: Status, message: str) -> None:
        self._end()
        self.stream.finish(trailers_only(status, message))

    def on_reset(self) -> None:
        if not self._over:
            self._end()
            self._log_cancellation("reset by the client")
            self._cancel()

    def on_writable(self) -> None:
        """Nothing to do: the whole answer was handed over at once."""

    def _cancel(self) -> None:
        if self._future is not None:
            self._tasks.add(self._future)
            self._future.add_done_callback(self._tasks.discard)
            self._future.cancel()
            self._future = None
