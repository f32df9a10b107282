"""The gRPC call with messages both ways."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from conch.tensor.tensor import Buffer
from conch.wire.grpc.calls import Call, CallOptions, Parts
from conch.wire.grpc.head import CallHead, Metadata
from conch.wire.grpc.http2.stream import Stream
from conch.wire.grpc.messages import MessageReader, frame_message
from conch.wire.grpc.outcome import OK_TRAILERS, RESPONSE_HEAD, RpcError, Status, response_head, trailers, trailers_only

#: What a stream may have waiting for its client before `StreamCall.send` waits, too.
_BACKLOG_BYTES = 1 << 20

#: What an unread message costs beside its bytes, so that empty ones count, too.
_MESSAGE_COST_BYTES = 64


class StreamCall(Call):
    """A call with messages both ways: iterate over what the client sends, `send` answers at any time."""

    __slots__ = ("_closed", "_started", "_task", "_unread", "_unread_bytes", "_wake_reader", "_wake_sender")

    def __init__(
        self,
        stream: Stream,
        head: CallHead,
        options: CallOptions,
        tasks: set[asyncio.Future[Any]],
        handle: Callable[[StreamCall], Awaitable[None]],
    ) -> None:
        super().__init__(stream, head, options, tasks)
        self._reader = options.reader(head.encoding)
        self._unread: deque[Buffer] = deque()
        self._unread_bytes = 0
        self._closed = False
        self._started = False
        self._wake_reader: asyncio.Future[None] | None = None
        self._wake_sender: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] = asyncio.ensure_future(self._run(handle))
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
        self._unread_bytes -= len(message) + _MESSAGE_COST_BYTES
        self._replenish()
        return message

    async def send(self, parts: Parts) -> None:
        """Send one message; waits while the client reads more slowly than we answer.

        Raises:
            RpcError: the message is too large.
        """
        while not self.has_room:
            self._wake_sender = asyncio.get_running_loop().create_future()
            await self._wake_sender
        self.send_now(parts)

    @property
    def has_room(self) -> bool:
        """Whether `send` would not wait."""
        return self.stream.backlog_bytes <= _BACKLOG_BYTES

    def send_now(self, parts: Parts) -> None:
        """Send one message however much the client has not read yet. Raises RpcError as `send` does."""
        if self._over:
            return
        encoding = self._encoding if self._level else ""
        framed, size = frame_message(parts, encoding, self._level if encoding else 0)
        if not self._started:
            self._started = True
            self.stream.send_headers(response_head(encoding) if encoding else RESPONSE_HEAD)
        self.stream.send_data(framed, size)

    def on_data(self, chunk: Buffer, end: bool) -> None:
        if not self._over and self._reader is not None:
            self._take(self._reader, self._reader.feed(chunk), end)

    def place(self, size: int) -> memoryview | None:
        return self._reader.place(size) if self._reader is not None and not self._over else None

    def on_placed(self, size: int, end: bool) -> None:
        if not self._over and self._reader is not None:
            self._take(self._reader, self._reader.advance(size), end)

    def _take(self, reader: MessageReader, messages: Iterator[Buffer], end: bool) -> None:
        try:
            for message in messages:
                self._unread.append(message)
                self._unread_bytes += len(message) + _MESSAGE_COST_BYTES
            if end and reader.in_message:
                raise RpcError(Status.INTERNAL, "the stream ended in the middle of a message")
        except RpcError as error:
            self._cancel()
            self._fail(error.status, error.message)
            return
        self._closed = end
        self._replenish()
        _wake(self._wake_reader)

    def on_reset(self) -> None:
        if not self._over:
            self._end()
            self._log_cancellation("reset by the client")
            self._cancel()

    def on_writable(self) -> None:
        _wake(self._wake_sender)

    def _replenish(self) -> None:
        """Grant the client more, but only while its messages are read."""
        reader = self._reader
        assert reader is not None
        if not self._closed and self._unread_bytes < self.stream.connection.limits.stream_window_bytes:
            self.stream.replenish(reader.needed)

    async def _run(self, handle: Callable[[StreamCall], Awaitable[None]]) -> None:
        await handle(self)

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


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
