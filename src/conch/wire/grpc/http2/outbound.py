"""The sending side of a connection: flow control, fairness between streams, one write a turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from conch.tensor.tensor import Buffer
from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.frames import ConnectionFault, ErrorCode, StreamFault
from conch.wire.grpc.http2.stream import Stream

_pack = frames.HEADER.pack

#: Parts of this size are handed to the transport as they are instead of being copied into one buffer.
_LARGE_BYTES = 64 << 10
#: How much of the backlog becomes frames in one turn of the loop.
_TURN_BYTES = 1 << 20
#: How much one stream may take before the next one has its turn.
_SHARE_BYTES = 256 << 10


class Outbound:
    """Frames on their way to the peer.

    Args:
        loop: the event loop everything runs on.
        ended: called when a stream's last frame is queued.
        max_unwritten_bytes: what may wait in the transport for a peer that does not read; then it is dropped.

    Attributes:
        window: what the peer still takes on all streams together.
        initial_window: the window new streams start with, as the peer's SETTINGS have it.
        max_frame: the largest frame the peer takes.
        answered: headers or data were queued since somebody last set this to False.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ended: Callable[[Stream], None], max_unwritten_bytes: int
    ) -> None:
        self._loop = loop
        self._ended = ended
        self._max_unwritten = max_unwritten_bytes
        self._transport: asyncio.Transport | None = None
        self._out: list[Buffer] = []
        self._large = False
        self._scheduled = False
        self._paused = False
        self._waiting: dict[int, Stream] = {}
        self.window = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame = frames.MIN_MAX_FRAME_SIZE
        self.answered = False

    def connect(self, transport: asyncio.Transport) -> None:
        """Everything goes to this transport from now on."""
        self._transport = transport

    def disconnect(self) -> None:
        """Forget the transport and everything that waited for it."""
        self._transport = None
        self._out = []
        self._waiting.clear()

    # What is sent.

    def control(self, frame: bytes) -> None:
        """Queue a frame that no flow control holds back."""
        self._out.append(frame)
        self._schedule()

    def reply(self, stream: Stream, head: bytes, parts: list[Buffer], size: int, trailers: bytes) -> None:
        """Headers, `size` bytes of data and trailers; the common case of a small answer costs one list extension."""
        if size > self.window or size > stream.send_window or size > self.max_frame or self._paused:
            self.send_headers(stream, head)
            self._defer(stream, parts, size)
            self.finish(stream, trailers)
            return
        self.window -= size
        stream_id = stream.id
        self._out += (
            _pack(len(head) << 8 | frames.HEADERS, frames.END_HEADERS, stream_id),
            head,
            _pack(size << 8, 0, stream_id),
            *parts,
            _pack(len(trailers) << 8 | frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id),
            trailers,
        )
        if size >= _LARGE_BYTES:
            self._large = True
        self.answered = True
        self._ended(stream)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def send_headers(self, stream: Stream, block: bytes) -> None:
        """The header block that starts an answer."""
        self.answered = True
        self.control(frames.encode_header_block(stream.id, block, False, self.max_frame))

    def send_data(self, stream: Stream, parts: list[Buffer], size: int) -> None:
        """Data of a stream whose headers were sent; order is kept with what waits already."""
        room = min(self.window, stream.send_window, self.max_frame)
        if size > room or stream.backlog_bytes or self._paused:
            self._defer(stream, parts, size)
            return
        self.window -= size
        stream.send_window -= size
        self._out.append(_pack(size << 8, 0, stream.id))
        self._out += parts
        if size >= _LARGE_BYTES:
            self._large = True
        self.answered = True
        self._schedule()

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """The header block that ends an answer, as soon as its data has gone."""
        if stream.backlog_bytes:
            stream.trailers = trailers
            return
        self.answered = True
        self.control(frames.encode_header_block(stream.id, trailers, True, self.max_frame))
        self._ended(stream)

    def forget(self, stream: Stream) -> None:
        """The stream was reset: drop what waits."""
        self._waiting.pop(stream.id, None)
        stream.backlog = None
        stream.backlog_bytes = 0

    # What the peer allows.

    def enlarge(self, increment: int) -> None:
        """The peer takes more on the connection.

        Raises:
            ConnectionFault: more than a window can hold.
        """
        self.window += increment
        if self.window > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window grew beyond 2**31-1")
        if self._waiting:
            self._schedule()

    def enlarge_stream(self, stream: Stream, increment: int) -> None:
        """The peer takes more on one stream (or less: new settings may make the window negative).

        Raises:
            StreamFault: more than a window can hold.
        """
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "stream window grew beyond 2**31-1")
        if stream.backlog_bytes and stream.send_window > 0:
            self._waiting[stream.id] = stream
            self._schedule()

    def pause(self) -> None:
        """The transport's buffer is full: no more data until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """The transport takes data again."""
        self._paused = False
        if self._waiting:
            self._schedule()

    # How it is sent.

    def flush(self) -> None:
        """Hand everything queued to the transport."""
        self._scheduled = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._waiting:
            self._pump()
        if self._out:
            out, self._out = self._out, []
            if self._large:
                self._large = False
                transport.writelines(_coalesce(out))
            else:
                transport.write(b"".join(out))
            if self._paused and transport.get_write_buffer_size() > self._max_unwritten + _TURN_BYTES:
                transport.abort()
                return
        if self._waiting and self.window > 0 and not self._paused:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def _defer(self, stream: Stream, parts: list[Buffer], size: int) -> None:
        if not size:
            return
        if stream.backlog is None:
            stream.backlog = deque()
        stream.backlog.extend(memoryview(part) for part in parts if len(part))
        stream.backlog_bytes += size
        if stream.send_window > 0:
            self._waiting[stream.id] = stream
            self._schedule()

    def _pump(self) -> None:
        """Turn backlog into frames: streams in turn, as far as windows and this turn's share go."""
        budget = _TURN_BYTES
        while self._waiting and self.window > 0 and budget > 0 and not self._paused:
            stream_id = next(iter(self._waiting))
            stream = self._waiting.pop(stream_id)
            share = min(_SHARE_BYTES, budget)
            while share > 0:
                size = min(stream.backlog_bytes, stream.send_window, self.window, self.max_frame)
                if size <= 0:
                    break
                self._frame(stream, size)
                share -= size
                budget -= size
            if not stream.backlog_bytes:
                self._drained(stream)
            elif stream.send_window > 0:
                self._waiting[stream_id] = stream

    def _frame(self, stream: Stream, size: int) -> None:
        """One DATA frame with the next `size` bytes of the backlog."""
        backlog = stream.backlog
        assert backlog is not None
        self._out.append(_pack(size << 8, 0, stream.id))
        self.window -= size
        stream.send_window -= size
        stream.backlog_bytes -= size
        while size:
            part = backlog[0]
            if len(part) <= size:
                backlog.popleft()
            else:
                backlog[0], part = part[size:], part[:size]
            self._out.append(part)
            size -= len(part)
        self._large = True
        self.answered = True

    def _drained(self, stream: Stream) -> None:
        if stream.trailers is not None:
            self.finish(stream, stream.trailers)
        else:
            stream.receiver.on_writable()


def _coalesce(out: list[Buffer]) -> list[Buffer]:
    """The same bytes with every run of small parts joined."""
    joined: list[Buffer] = []
    run: list[Buffer] = []
    for part in out:
        if len(part) < _LARGE_BYTES:
            run.append(part)
            continue
        if run:
            joined.append(b"".join(run))
            run = []
        joined.append(part)
    if run:
        joined.append(b"".join(run))
    return joined
