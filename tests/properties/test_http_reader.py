"""A reader that knows the heads reads what one that parses everything reads, however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conch.tensor.memory import heap_memory
from conch.wire.http import reader as reader_module
from conch.wire.http.known_heads import KnownHeads
from conch.wire.http.messages import HttpRequest, Reply, RequestHead
from conch.wire.http.reader import Limits, RequestReader


class _Forgetful(KnownHeads):
    def learn(self, raw: bytes, head: RequestHead) -> None:
        """Nothing."""


class _Sink:
    """Keeps what was read.

    Attributes:
        places: whether bodies are read where they are to lie.
        target: what the next bytes go to.
    """

    def __init__(self, places: bool = False) -> None:
        self.closing = False
        self.places = places
        self.target = memoryview(b"")
        self.read: list[tuple[object, ...]] = []

    def on_request(self, request: HttpRequest) -> None:
        head = request.head
        self.read.append((head.method, head.target, dict(head.headers), head.keep_alive, bytes(request.body)))
        self.closing = not head.keep_alive

    def on_continue_expected(self) -> None:
        self.read.append(("continue",))

    def on_refusal(self, reply: Reply) -> None:
        if not self.closing:  # what follows the last message of a connection does not matter
            self.read.append(("refused", reply.parts))
        self.closing = True

    def place(self, target: memoryview) -> bool:
        if self.places:
            self.target = target
        return self.places


_EXTRAS = st.sampled_from(
    [b"", b"X-A: 1\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n"]
)


@st.composite
def _messages(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"POST", b"POST", b"POST", b"GET"]))
    start = method + b" /" + draw(st.sampled_from([b"a", b"b", b"m/infer"])) + b" HTTP/1.1\r\n" + draw(_EXTRAS)
    body = draw(st.sampled_from([b"", b"abc", b"\r\n\r\n", b"POST /a HTTP/1.1\r\n\r\n"]))
    if draw(st.booleans()):
        chunks = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        return start + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return start + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _read(known: KnownHeads, data: bytes, places: list[int], in_place: bool = False) -> list[tuple[object, ...]]:
    sink = _Sink(in_place)
    reader = RequestReader(sink, Limits(), False, known, heap_memory)
    cuts = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    for start, end in itertools.pairwise(cuts):
        piece = data[start:end]
        if sink.target:
            size = min(len(sink.target), len(piece))
            sink.target[:size] = piece[:size]
            sink.target = sink.target[size:]
            piece = piece[size:]
            if not sink.target:
                reader.placed()
        if piece and not sink.closing:
            reader.feed(piece, 0.0)
    return sink.read


@settings(max_examples=300, deadline=None)
@given(messages=st.lists(_messages(), min_size=1, max_size=6), places=st.lists(st.integers(0, 2000), max_size=8))
def test_known_heads_change_nothing(messages: list[bytes], places: list[int]) -> None:
    data = b"".join(messages)
    expected = _read(_Forgetful(), data, [])
    known = KnownHeads()
    for message in messages:
        _read(known, message, [])
    assert _read(known, data, places) == expected
    assert _read(known, data, []) == expected


@settings(max_examples=300, deadline=None)
@given(messages=st.lists(_messages(), min_size=1, max_size=6), places=st.lists(st.integers(0, 2000), max_size=12))
def test_bodies_read_where_they_are_to_lie_are_the_same(messages: list[bytes], places: list[int]) -> None:
    data = b"".join(messages)
    expected = _read(_Forgetful(), data, [])
    known = KnownHeads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "PLACED_BYTES", 2)
        assert _read(known, data, places, in_place=True) == expected
        assert _read(known, data, places, in_place=True) == expected
