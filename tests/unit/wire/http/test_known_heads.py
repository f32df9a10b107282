"""Heads that come again are found by their bytes; the requests are those that the parser would have read."""

from __future__ import annotations

import pytest

from conch.tensor.memory import heap_memory
from conch.wire.http.known_heads import KnownHeads
from conch.wire.http.messages import HttpRequest, Reply
from conch.wire.http.reader import Limits, RequestReader


class Sink:
    """Keeps what was read."""

    def __init__(self) -> None:
        self.closing = False
        self.requests: list[HttpRequest] = []
        self.refusals: list[Reply] = []

    def on_request(self, request: HttpRequest) -> None:
        self.requests.append(request)

    def on_continue_expected(self) -> None: ...

    def on_refusal(self, reply: Reply) -> None:
        self.refusals.append(reply)

    def place(self, target: memoryview) -> bool:
        return False


def read(known: KnownHeads, *pieces: bytes, limits: Limits | None = None) -> Sink:
    sink = Sink()
    reader = RequestReader(sink, limits or Limits(), False, known, heap_memory)
    for piece in pieces:
        reader.feed(piece, 0.0)
    return sink


def post(body: bytes, *lines: bytes) -> bytes:
    head = b"\r\n".join((b"POST /v2/models/m/infer HTTP/1.1", b"Host: x", *lines, b"Content-Length: %d" % len(body)))
    return head + b"\r\n\r\n" + body


def test_equal_heads_share_one_object_and_bodies_are_their_own() -> None:
    known = KnownHeads()
    first = read(known, post(b"one")).requests
    second = read(known, post(b"two")).requests
    assert [request.body for request in first + second] == [b"one", b"two"]
    assert second[0].head is first[0].head
    assert second[0].headers[b"content-length"] == b"3"


@pytest.mark.parametrize("cut", [1, 40, 80, 81, 83])
def test_a_known_head_and_its_body_may_come_in_pieces(cut: int) -> None:
    known = KnownHeads()
    message = post(b"abcdef")
    read(known, message)
    sink = read(known, message[:cut], message[cut:], message)
    assert [request.body for request in sink.requests] == [b"abcdef", b"abcdef"]
    assert not sink.refusals


def test_known_and_new_messages_may_follow_each_other_in_one_piece() -> None:
    known = KnownHeads()
    read(known, post(b"abc"))
    other = post(b"wxyz", b"X-New: 1")
    sink = read(known, post(b"abc") + other + post(b"def") + other[:-2], other[-2:] + post(b"ghi"))
    assert [request.body for request in sink.requests] == [b"abc", b"wxyz", b"def", b"wxyz", b"ghi"]


def test_thousands_of_known_messages_in_one_piece_are_read() -> None:
    known = KnownHeads()
    read(known, post(b"abc"))
    assert len(read(known, post(b"abc") * 5000).requests) == 5000


@pytest.mark.parametrize(
    "line", [b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue", b"Upgrade: h2c"]
)
def test_heads_that_say_more_than_what_the_body_is_are_parsed_each_time(line: bytes) -> None:
    known = KnownHeads()
    message = post(b"abc", line)
    heads = {read(known, message).requests[0].head for _ in range(2)}
    assert len(heads) == 2


def test_chunked_bodies_are_parsed_each_time() -> None:
    known = KnownHeads()
    chunked = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    read(known, post(b"abc"), chunked)
    sink = read(known, chunked[:55], chunked[55:], chunked)
    assert [request.body for request in sink.requests] == [b"abc", b"abc"]


def test_an_incomplete_chunked_body_is_not_mistaken_for_the_message_before_it() -> None:
    known = KnownHeads()
    chunked = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    sink = read(known, post(b"abc"), chunked, b"2\r\nhi\r\n0\r\n\r\n", chunked, b"2\r\nho\r\n0\r\n\r\n")
    assert [request.body for request in sink.requests] == [b"abc", b"hi", b"ho"]


def test_a_head_with_bare_line_feeds_is_not_learned() -> None:
    known = KnownHeads()
    # For a parser that ends lines at a line feed the body begins earlier than the first empty line with CR.
    smuggled = b"POST /x HTTP/1.1\nContent-Length: 7\n\nabc\r\n\r\n"
    read(known, smuggled)
    assert known.get(smuggled) is None


def test_what_follows_the_end_of_a_connection_is_not_read_as_known() -> None:
    known = KnownHeads()
    read(known, post(b"abc"))
    sink = read(known, post(b"bye", b"Connection: close"), post(b"abc"))
    assert [request.body for request in sink.requests] == [b"bye"]


def test_a_body_that_is_too_large_is_refused_each_time() -> None:
    known = KnownHeads()
    for _ in range(2):
        sink = read(known, post(b"x" * 11), limits=Limits(max_body_bytes=10))
        assert not sink.requests
        assert len(sink.refusals) == 1
