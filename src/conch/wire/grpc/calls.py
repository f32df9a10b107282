"""gRPC calls on HTTP/2 streams: one message in and one out, or messages both ways; deadlines and cancellation."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from conch.tensor.tensor import Buffer
from conch.wire.grpc.head import CallHead, Metadata, parse_head
from conch.wire.grpc.http2.frames import ErrorCode
from conch.wire.grpc.http2.hpack_cache import Headers
from conch.wire.grpc.http2.stream import Receiver, Stream
from conch.wire.grpc.messages import MessageReader, check_size, frame_message
from conch.wire.grpc.outcome import (
    OK_TRAILERS,
    RESPONSE_HEAD,
    RpcError,
    Status,
    http_error,
    outcome_of,
    response_head,
    trailers,
    trailers_only,
)

logger = logging.getLogger("conch.wire.grpc")

#: A serialized message as pieces to be written one after the other.
Parts = list[Buffer]

#: What a stream may have waiting for its client before `StreamCall.send` waits, too.
_BACKLOG_BYTES = 1 << 20


class Pending(msgspec.Struct, frozen=True, gc=False):
    """An answer that is not there yet: `encode` makes the message of what the awaitable gives."""

    awaitable: Awaitable[Any]
    encode: Callable[[Any], Parts]


class UnaryMethod(msgspec.Struct, frozen=True):
    """One message in, one out. `handle` may answer at once or leave the answer pending; it raises to fail the call."""

    path: str
    handle: Callable[[Buffer, Metadata], Parts | Pending]


class StreamMethod(msgspec.Struct, frozen=True):
    """Messages both ways: the call ends when `handle` returns (OK) or raises."""

    path: str
    handle: Callable[[StreamCall], Awaitable[None]]


Method = UnaryMethod | StreamMethod


class CallOptions(msgspec.Struct, frozen=True):
    """What holds for every call.

    Attributes:
        max_message_bytes: limit of a request message, compressed and decompressed.
        compression_level: zlib level of answers to clients that understand compression; 0 for off.
    """

    max_message_bytes: int = 2**31 - 1
    compression_level: int = 0


class GrpcCalls:
    """Opens a call for every stream; what `Connection` serves."""

    def __init__(self, methods: Iterable[Method], options: CallOptions) -> None:
        self._methods = {method.path: method for method in methods}
        self._options = options
        self._tasks: set[asyncio.Future[Any]] = set()

    def parse(self, headers: Headers) -> CallHead:
        """See `parse_head`."""
        return parse_head(headers, self._methods)

    def open(self, stream: Stream, head: CallHead) -> Receiver:
        """The call a stream belongs to; a head that cannot be served is answered right away."""
        method = head.method
        if type(method) is UnaryMethod:
            return UnaryCall(stream, head, self._options, self._tasks, method)
        if type(method) is StreamMethod:
            return StreamCall(stream, head, self._options, self._tasks, method)
        if head.malformed:
            logger.info("malformed request from %s: %s", stream.connection.peer, head.malformed)
            stream.reset(ErrorCode.PROTOCOL_ERROR)
        elif head.http_status:
            stream.finish(http_error(head.http_status))
        else:
            error = head.error
            assert error is not None
            stream.finish(trailers_only(error.status, error.message))
        return _Refused()

    async def unwind(self) -> None:
        """Wait until whatever works on calls that ended before their time has stopped."""
        while self._tasks:
            await asyncio.wait(self._tasks)


class _Refused:
    """Takes what a client still sends on a stream that was answered at once."""

    def on_data(self, chunk: Buffer, end: bool) -> None: ...

    def on_reset(self) -> None: ...

    def on_writable(self) -> None: ...


class _Call:
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


class UnaryCall(_Call):
    """A call with one message each way. Costs no task: the answer's future calls back."""

    __slots__ = ("_encode", "_future", "_message", "_method")

    def __init__(
        self,
        stream: Stream,
        head: CallHead,
        options: CallOptions,
        tasks: set[asyncio.Future[Any]],
        method: UnaryMethod,
    ) -> None:
        super().__init__(stream, head, options, tasks)
        self._method = method
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
            self._read(chunk, end)
        except RpcError as error:
            self._fail(error.status, error.message)

    def _read(self, chunk: Buffer, end: bool) -> None:
        """The slow path: the message comes in pieces, or compressed."""
        reader = self._reader
        if reader is None:
            reader = self._reader = MessageReader(self.head.encoding, self._options.max_message_bytes)
        for message in reader.feed(chunk):
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
            answer = self._method.handle(message, self.head.metadata)
        except Exception as error:
            self._fail_with(error)
            return
        if type(answer) is Pending:
            self._encode = answer.encode
            future = self._future = asyncio.ensure_future(answer.awaitable)
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


class StreamCall(_Call):
    """A call with messages both ways: iterate over what the client sends, `send` answers at any time."""

    __slots__ = ("_closed", "_started", "_task", "_unread", "_unread_bytes", "_wake_reader", "_wake_sender")

    def __init__(
        self,
        stream: Stream,
        head: CallHead,
        options: CallOptions,
        tasks: set[asyncio.Future[Any]],
        method: StreamMethod,
    ) -> None:
        super().__init__(stream, head, options, tasks)
        self._reader = MessageReader(head.encoding, options.max_message_bytes)
        self._unread: deque[Buffer] = deque()
        self._unread_bytes = 0
        self._closed = False
        self._started = False
        self._wake_reader: asyncio.Future[None] | None = None
        self._wake_sender: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] = asyncio.ensure_future(self._run(method))
        tasks.add(self._task)
        self._task.add_done_callback(self._finished)

    @property
    def metadata(self) -> Metadata:
        """The client's metadata."""
        return self.head.metadata

    def __aiter__(self) -> StreamCall:
        return self

    async def __anext__(self) -> Buffer:
        """The client's next message; the iteration ends when it has closed its side."""
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._wake_reader = asyncio.get_running_loop().create_future()
            await self._wake_reader
        message = self._unread.popleft()
        self._unread_bytes -= len(message)
        self._replenish()
        return message

    async def send(self, parts: Parts) -> None:
        """Send one message; waits while the client reads more slowly than we answer.

        Raises:
            RpcError: the message is too large.
        """
        while self.stream.backlog_bytes > _BACKLOG_BYTES:
            self._wake_sender = asyncio.get_running_loop().create_future()
            await self._wake_sender
        encoding = self._encoding if self._level else ""
        framed, size = frame_message(parts, encoding, self._level if encoding else 0)
        if not self._started:
            self._started = True
            self.stream.send_headers(response_head(encoding) if encoding else RESPONSE_HEAD)
        self.stream.send_data(framed, size)

    def on_data(self, chunk: Buffer, end: bool) -> None:
        if self._over:
            return
        reader = self._reader
        assert reader is not None
        try:
            for message in reader.feed(chunk):
                self._unread.append(message)
                self._unread_bytes += len(message)
            if end and reader.in_message:
                raise RpcError(Status.INTERNAL, "the stream ended in the middle of a message")
        except RpcError as error:
            self._cancel()
            self._fail(error.status, error.message)
            return
        self._closed = end
        self._replenish()
        self._wake(self._wake_reader)

    def on_reset(self) -> None:
        if not self._over:
            self._end()
            self._log_cancellation("reset by the client")
            self._cancel()

    def on_writable(self) -> None:
        self._wake(self._wake_sender)

    def _replenish(self) -> None:
        """Grant the client more, but only while its messages are read."""
        reader = self._reader
        assert reader is not None
        if not self._closed and self._unread_bytes < self.stream.connection.limits.stream_window_bytes:
            self.stream.replenish(reader.needed)

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _run(self, method: StreamMethod) -> None:
        await method.handle(self)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._over:
            if not task.cancelled():
                task.exception()  # nobody waits for it any more
        elif task.cancelled():
            self._fail(Status.CANCELLED, "the server gave the stream up")
        elif (error := task.exception()) is not None:
            self._fail_with(error)
        else:
            if not self._started:
                self.stream.send_headers(RESPONSE_HEAD)
            self._end()
            self.stream.finish(OK_TRAILERS)

    def _fail(self, status: Status, message: str) -> None:
        self._end()
        self.stream.finish(trailers(status, message) if self._started else trailers_only(status, message))

    def _cancel(self) -> None:
        self._task.cancel()
