"""Whatever frames come, in whatever pieces: a connection answers or closes, and never raises or forgets a stream."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from conch.tensor.tensor import Buffer
from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.connection import Connection
from conch.wire.grpc.http2.hpack_cache import Headers
from conch.wire.grpc.http2.limits import Http2Limits
from conch.wire.grpc.http2.stream import Stream

STREAM_IDS = st.sampled_from([0, 1, 1, 3, 3, 5, 2])
BLOCKS = st.sampled_from([b"\x83\x86\x84", b"\x82", b"\x40\x01a\x01b", b"\xbe", b"", b"\x3f\xe1\x1f"])
PAYLOADS = st.one_of(
    st.binary(max_size=12), BLOCKS, st.sampled_from([bytes(8), bytes(4), bytes(5), b"\0\0\1\0", bytes(300)])
)
KINDS = st.sampled_from([0, 0, 0, 1, 1, 1, 2, 3, 4, 6, 7, 8, 8, 9, 20])
FLAGS = st.sampled_from([0, 1, 4, 4, 5, 5, 8, 0x2D])
FRAMES = st.builds(frames.encode_frame, KINDS, FLAGS, STREAM_IDS, PAYLOADS)


class Sink(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, parts: Any) -> None:
        self.written += b"".join(parts)

    def is_closing(self) -> bool:
        return self.closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closing = True

    def close(self) -> None:
        self.closing = True

    abort = close


class Echo:
    """Sends back what comes, and says how each stream ended."""

    def __init__(self) -> None:
        self.open_streams = 0

    def parse(self, headers: Headers) -> Headers:
        return headers

    def open(self, stream: Stream, head: Headers) -> EchoReceiver:
        self.open_streams += 1
        return EchoReceiver(self, stream)


class EchoReceiver:
    def __init__(self, echo: Echo, stream: Stream) -> None:
        self._echo = echo
        self._stream = stream
        self._received: list[Buffer] = []
        self._ends = 0

    def on_data(self, chunk: Buffer, end: bool) -> None:
        assert not self._ends, "data after the end"
        self._received.append(bytes(chunk))
        self._stream.replenish(0)
        if end:
            self._end()
            self._stream.reply(b"\x88", self._received, sum(map(len, self._received)), b"\x88")

    def place(self, size: int) -> memoryview | None:
        return None

    def on_placed(self, size: int, end: bool) -> None:
        raise AssertionError("nothing was placed")

    def on_reset(self) -> None:
        if not self._ends:  # a stream whose answer still waits may be reset, too
            self._end()

    def on_writable(self) -> None:
        """Nothing waits for it."""

    def _end(self) -> None:
        self._ends += 1
        self._echo.open_streams -= 1


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


async def feed(pieces: list[bytes]) -> bytes:
    """What the connection writes; checks that no stream is forgotten."""
    echo, sink = Echo(), Sink()
    connections: set[Any] = set()
    connection = Connection(echo, Http2Limits(stream_window_bytes=2000, max_concurrent_streams=2), connections)
    connection.connection_made(sink)
    for piece in pieces:
        if sink.closing:
            break
        connection.data_received(piece)
    await asyncio.sleep(0)
    written = sink.written
    connection.connection_lost(None)
    assert echo.open_streams == 0
    assert not connections and not connection.streams
    return written


@settings(max_examples=400)
@given(st.lists(FRAMES, max_size=25), st.lists(st.integers(0, 10**6), max_size=15))
def test_cuts_make_no_difference_and_nothing_raises(sent: list[bytes], places: list[int]) -> None:
    data = frames.PREFACE + frames.encode_settings({}) + b"".join(sent)
    whole = asyncio.run(feed([data]))
    assert whole.startswith(frames.encode_settings({3: 2, 4: 2000, 5: 1 << 20, 6: 16 << 10}))
    assert asyncio.run(feed(cut(data, places))) == whole


@given(st.binary(max_size=100))
def test_garbage_after_the_preface_changes_nothing_that_was_answered_before_it(garbage: bytes) -> None:
    greeting = frames.PREFACE + frames.encode_settings({})
    assert asyncio.run(feed([greeting, garbage])).startswith(asyncio.run(feed([greeting])))
