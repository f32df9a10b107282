"""One HTTP/1.x connection: bytes to requests, replies to bytes, strictly in order and within limits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import Any, Protocol, cast

from conch.core.queue import RequestFuture
from conch.errors import CancelledError, ConchError
from conch.tensor.memory import Allocate
from conch.wire.http.known_heads import KnownHeads
from conch.wire.http.messages import HttpApp, HttpRequest, Outcome, Pending, Reply, RequestHead, Streamed, error_reply
from conch.wire.http.reader import Limits, RequestReader
from conch.wire.http.streaming import StreamWriter
from conch.wire.placed_reader import PlacedReader

logger = logging.getLogger(__name__)

#: A reply up to this size leaves as one buffer; larger bodies are handed to the transport part by part, uncopied.
_JOIN_BYTES = 1 << 16

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_END = b"\r\n\r\n"
_CLOSE_END = b"\r\nConnection: close\r\n\r\n"
_KEEP_ALIVE_END = b"\r\nConnection: keep-alive\r\n\r\n"


class ConnectionOwner(Protocol):
    """Who keeps track of a connection.

    Attributes:
        heads: the heads that came over any of its connections.
        allocate: makes room for large bodies.
    """

    app: HttpApp
    limits: Limits
    heads: KnownHeads
    allocate: Allocate
    loop: asyncio.AbstractEventLoop

    def opened(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """The server's end of a connection.

    Requests are answered one at a time; those a client pipelines wait, and nothing more is read while they do.
    """

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._app = owner.app
        self._limits = owner.limits
        self._loop = owner.loop
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._reader = RequestReader(self, owner.limits, owner.app.needs_raw_headers, owner.heads, owner.allocate)
        # The messages being answered.
        self._waiting: deque[HttpRequest] = deque()
        self._current: HttpRequest | None = None
        self._pending: Pending | None = None
        self._future: asyncio.Future[Any] | None = None
        self._stream: StreamWriter | None = None
        self._advancing = False
        self._continue_due = False
        self._refusal: Reply | None = None
        # The connection's own state.
        self._refused = False
        self._draining = False
        self.closing = False
        self._write_paused = False
        self._refused_at = self._progress_at = self._loop.time()
        self._unsent_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self._waiting.clear()
        if self._future is not None:
            self._future.cancel()
        self._owner.closed(self)

    def data_received(self, data: bytes) -> None:
        self._progress_at = self._loop.time()
        if not self._refused and not self.closing:
            self._reader.feed(data, self._progress_at)

    def eof_received(self) -> None:
        return None  # the transport closes itself

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._stream is not None:
            self._stream.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._stream is not None:
            self._stream.resume()
        self._advance()

    # Receiving: called by the reader

    def on_request(self, request: HttpRequest) -> None:
        """A request is complete: answer it, or keep it until those before it are answered."""
        self._continue_due = False
        if self._current is None and not self._waiting and not self._write_paused:
            self._start(request)
        else:
            if not self._waiting and not self._transport.is_closing():
                self._transport.pause_reading()
            self._waiting.append(request)

    def on_continue_expected(self) -> None:
        """The client wants to hear that it may send the body."""
        if self._current is None and not self._waiting:
            self._transport.write(_CONTINUE)
        else:
            self._continue_due = True

    def on_refusal(self, reply: Reply) -> None:
        """Stop reading requests; answer the refusal after the requests before it, then close."""
        self._refusal = reply
        self._refused = True
        if self._current is None and not self._waiting:
            self._write_refusal()

    def place(self, target: memoryview) -> bool:
        """Have the system read into `target`."""
        if self._waiting or self._refused or self.closing or self._transport.is_closing():
            return False
        PlacedReader(self._transport, self, target, self._on_progress, self._reader.placed)
        return True

    def _on_progress(self) -> None:
        self._progress_at = self._loop.time()

    # Answering

    def _start(self, request: HttpRequest) -> None:
        self._current = request
        try:
            outcome = self._app.dispatch(request)
        except ConchError as error:
            outcome = self._app.failure(error)
        except Exception as error:
            outcome = self._unforeseen(error)
        self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        if type(outcome) is Reply:
            self._finish(outcome)
            return
        if type(outcome) is Streamed:
            self._begin_stream(outcome)
            return
        assert type(outcome) is Pending
        self._pending = outcome
        awaitable = outcome.awaitable
        if type(awaitable) is RequestFuture and not awaitable.done():
            self._future = awaitable
            awaitable.on_settled = self._awaited
            return
        self._future = asyncio.ensure_future(awaitable)
        if self._future.done():
            self._awaited(self._future)
        else:
            self._future.add_done_callback(self._awaited)

    def _awaited(self, future: asyncio.Future[Any]) -> None:
        pending, self._pending, self._future = self._pending, None, None
        outcome: Outcome
        try:
            value = future.result()
            if self.closing or pending is None:
                return
            outcome = pending.finish(value)
        except asyncio.CancelledError:
            outcome = self._app.failure(CancelledError("request was cancelled"))
        except ConchError as error:
            recover = None if pending is None else pending.recover
            outcome = self._app.failure(error) if recover is None else recover(error)
        except Exception as error:
            outcome = self._unforeseen(error)
        if not self.closing:
            self._settle(outcome)

    def _unforeseen(self, error: BaseException) -> Reply:
        """The reply that tells an error without details; those are in the log, with the request."""
        request = self._current
        what = "?" if request is None else f"{request.method.decode('latin-1')} {request.target.decode('latin-1')}"
        logger.error("%s: unexpected error while answering", what, exc_info=error)
        return self._app.failure(error)

    def _begin_stream(self, streamed: Streamed) -> None:
        request = self._current
        assert request is not None
        is_http_1_0 = request.head.is_http_1_0
        keep_alive = request.head.keep_alive and not self._draining and not is_http_1_0
        coding = b"" if is_http_1_0 else b"Transfer-Encoding: chunked\r\n"
        head = streamed.head + coding + (b"\r\n" if keep_alive else b"Connection: close\r\n\r\n")
        writer = StreamWriter(self._transport, chunked=not is_http_1_0, paused=self._write_paused)
        self._stream = writer
        self._future = self._loop.create_task(writer.write(head, streamed.pieces))
        self._future.add_done_callback(partial(self._stream_ended, keep_alive))

    def _stream_ended(self, keep_alive: bool, task: asyncio.Future[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._unforeseen(error)  # with the head gone the client can only be told by a cut connection
        self._stream = self._future = self._current = None
        if self.closing:
            return
        self._progress_at = self._loop.time()
        if error is not None or task.cancelled():
            self.abort()
        elif not keep_alive or self._draining:
            self._close()
        else:
            self._advance()

    def _finish(self, reply: Reply) -> None:
        request = self._current
        assert request is not None
        self._current = None
        head = request.head
        keep_alive = head.keep_alive and not self._draining
        self._write(reply, keep_alive, head)
        self._progress_at = self._loop.time()
        if not keep_alive:
            self._close()
        elif self._waiting or self._continue_due or self._refusal is not None:
            self._advance()

    def _advance(self) -> None:
        """Go on with what had to wait for a reply."""
        if self._advancing:  # replies that need no awaiting come back here from inside the loop
            return
        self._advancing = True
        while self._waiting and self._current is None and not self._write_paused and not self.closing:
            request = self._waiting.popleft()
            if not self._waiting and not self._transport.is_closing():
                self._transport.resume_reading()
                # What has begun behind it could not come meanwhile: its time begins now.
                self._progress_at = self._reader.started_at = self._loop.time()
            self._start(request)
        self._advancing = False
        if self._current is not None or self._waiting or self.closing:
            return
        if self._refusal is not None:
            self._write_refusal()
        elif self._continue_due:
            self._continue_due = False
            self._transport.write(_CONTINUE)

    def _write(self, reply: Reply, keep_alive: bool, head: RequestHead | None) -> None:
        if keep_alive and reply.start and head is not None and not head.is_http_1_0:
            start = reply.start
        else:
            if not keep_alive:
                end = _CLOSE_END
            elif head is not None and head.is_http_1_0:
                end = _KEEP_ALIVE_END
            else:
                end = _END
            start = reply.head + str(reply.length).encode() + end
        parts = () if head is not None and head.method == b"HEAD" else reply.parts
        if reply.length <= _JOIN_BYTES:
            self._transport.write(b"".join((start, *parts)))
            return
        self._transport.write(start)
        for part in parts:
            self._transport.write(part)

    def _write_refusal(self) -> None:
        assert self._refusal is not None
        self._write(self._refusal, keep_alive=False, head=None)
        self._refusal = None
        self._refused = True
        # The client may still be sending. Closing now would reset the connection and lose the reply on its side, so
        # only this direction ends; what it sends is read and dropped until it closes or `linger_s` is over.
        self._refused_at = self._loop.time()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        self.closing = True
        self._transport.close()

    # Called by the owner

    def drain(self) -> None:
        """Close as soon as nothing is being received or answered."""
        self._draining = True
        if self._current is None and not self._waiting and not self._reader.receiving and not self.closing:
            self._close()

    def abort(self) -> None:
        """Close now, cancelling what is being answered."""
        self.closing = True
        self._transport.abort()

    def sweep(self, now: float) -> None:
        """End the connection if it is over one of the timeouts; called now and then."""
        limits = self._limits
        quiet = now - self._progress_at
        if self._refused and self._current is None:
            if now - self._refused_at > limits.linger_s or quiet > limits.linger_s / 4:
                self.abort()
        elif self._transport.get_write_buffer_size():
            unsent = self._transport.get_write_buffer_size()
            if unsent != self._unsent_bytes:
                self._unsent_bytes = unsent
                self._progress_at = now
            elif quiet > limits.idle_timeout_s:
                self.abort()
        elif self._reader.receiving and not self._waiting:  # else it is not read on
            head_late = not self._reader.head_done and now - self._reader.started_at > limits.request_timeout_s
            if head_late or quiet > limits.request_timeout_s:
                self._reader.abandon()
                self.on_refusal(
                    error_reply(
                        408, f"request was not completed within {limits.request_timeout_s:g} seconds; send it again"
                    )
                )
        elif self._current is None and quiet > limits.idle_timeout_s:
            self._close()
