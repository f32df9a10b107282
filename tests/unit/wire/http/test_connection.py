"""Connections: order, framing, limits, disconnects, drain."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
from collections.abc import Iterator

import pytest
import uvloop

from conch.errors import UnavailableError
from conch.wire.http.listener import Listener
from conch.wire.http.messages import HttpRequest, Outcome, Pending, Reply, empty_reply, error_reply, json_reply
from conch.wire.http.reader import Limits
from conch.wire.http.server import HttpOptions, HttpServer
from tests.serving import wait_until
from tests.unit.wire.http.fake_server import FakeServer
from tests.unit.wire.http.harness import Served, read_replies, read_to_end, serving

_BODY = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}).encode()
_INFER = b"POST /v2/models/id_FP32/infer HTTP/1.1\r\nHost: x\r\n"
_LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
_LAST = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def _infer(body: bytes = _BODY, extra: bytes = b"") -> bytes:
    return _INFER + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _identified(number: int) -> bytes:
    document = json.loads(_BODY)
    return _infer(json.dumps({**document, "id": str(number)}).encode())


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server shared by the tests of this module, on either event loop."""
    with serving(request.param) as running:
        yield running


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def own_served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server of the test's own, on either event loop."""
    with serving(request.param) as running:
        yield running


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    replies = served.exchange(b"".join(_identified(n) for n in range(50)) + _LAST)
    positions = [replies.index(b'{"id":"%d"' % n) for n in range(50)]
    assert positions == sorted(positions)
    assert replies.count(b"HTTP/1.1 200 OK") == 51


def test_thousands_of_pipelined_requests_do_not_exhaust_the_stack(served: Served) -> None:
    replies = served.exchange(_LIVE * 5000 + _LAST)
    assert replies.count(b"HTTP/1.1 200 OK") == 5001


def test_a_pipelined_request_waits_for_the_one_before(own_served: Served) -> None:
    own_served.call(lambda: setattr(own_served.fake, "hold", True))
    with own_served.socket() as connection:
        connection.sendall(_identified(1) + _LAST)
        own_served.wait_until(lambda: own_served.fake.held == 1)
        own_served.call(own_served.fake.release)
        replies = read_to_end(connection)
    assert replies.index(b'{"id":"1"') < replies.index(b"Content-Type: text/plain")


def test_a_request_that_arrives_byte_by_byte_is_understood(served: Served) -> None:
    with served.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in _infer(extra=b"Connection: close\r\n"):
            connection.sendall(bytes([byte]))
        assert b'"data":[1.0,2.0]' in read_to_end(connection)


def test_a_body_and_the_next_request_in_one_packet_are_told_apart(served: Served) -> None:
    # The head alone first, so that the body bypasses the parser, then its end glued to the next request.
    head, _, body = _identified(1).partition(b"\r\n\r\n")
    with served.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head + b"\r\n\r\n")
        connection.sendall(body[:10])
        connection.sendall(body[10:] + _identified(2) + _LAST)
        replies = read_to_end(connection)
    assert replies.index(b'{"id":"1"') < replies.index(b'{"id":"2"') < replies.index(b"text/plain")


def test_chunked_bodies_are_put_together(served: Served) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (_BODY[:7], _BODY[7:50], _BODY[50:]))
    request = _INFER + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks + b"0\r\n\r\n"
    assert b'"data":[1.0,2.0]' in served.exchange(request)


def test_trailers_do_not_become_headers(served: Served) -> None:
    chunks = b"%x\r\n%b\r\n0\r\nInference-Header-Content-Length: 0\r\n\r\n" % (len(_BODY), _BODY)
    request = _INFER + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks
    assert b'"data":[1.0,2.0]' in served.exchange(request)


def test_expect_100_continue_is_answered_before_the_body_is_sent(served: Served) -> None:
    with served.socket() as connection:
        connection.sendall(_infer(extra=b"Expect: 100-continue\r\nConnection: close\r\n")[: -len(_BODY)])
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(_BODY)
        assert read_to_end(connection).startswith(b"HTTP/1.1 200 OK")


def test_100_continue_never_overtakes_the_reply_before_it(own_served: Served) -> None:
    own_served.call(lambda: setattr(own_served.fake, "hold", True))
    with own_served.socket() as connection:
        connection.sendall(_infer() + _infer(extra=b"Expect: 100-continue\r\n")[: -len(_BODY)])
        own_served.wait_until(lambda: own_served.fake.held == 1)
        own_served.call(own_served.fake.release)
        received = b""
        while not received.endswith(b"100 Continue\r\n\r\n"):
            received += connection.recv(1 << 16)
        assert received.startswith(b"HTTP/1.1 200 OK")
        own_served.call(lambda: setattr(own_served.fake, "hold", False))
        connection.sendall(_BODY)
        assert read_replies(connection, 1).startswith(b"HTTP/1.1 200 OK")


def test_http_1_0_closes_unless_the_client_asks_otherwise(served: Served) -> None:
    assert b"Connection: close\r\n" in served.exchange(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    with served.socket() as connection:
        for _ in range(2):
            connection.sendall(b"GET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert b"Connection: keep-alive\r\n" in connection.recv(1 << 16)


def test_connection_close_is_obeyed_and_announced(served: Served) -> None:
    assert served.exchange(_LAST) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )


def test_replies_to_head_have_no_body(served: Served) -> None:
    replies = served.exchange(b"HEAD /v2 HTTP/1.1\r\nHost: x\r\n\r\n" + _LAST)
    first, _, rest = replies.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 405 ")
    assert rest.startswith(b"HTTP/1.1 200 ")


def test_an_offer_to_upgrade_is_passed_over(served: Served) -> None:
    offer = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n" + offer + b"\r\n"
    sent = live + _infer(extra=offer) + live + _infer(extra=offer) + _LAST
    assert served.exchange(sent).count(b"HTTP/1.1 200 OK") == 5
    with served.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in sent:
            connection.sendall(bytes([byte]))
        assert read_to_end(connection).count(b"HTTP/1.1 200 OK") == 5


def test_an_offer_to_upgrade_with_a_chunked_body_is_refused(served: Served) -> None:
    head = _INFER + b"Upgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = served.exchange(head + b"1\r\n{\r\n0\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b"chunked request body with an Upgrade header; send it without" in reply


def test_a_tunnel_is_refused_and_what_follows_is_not_read_as_requests(served: Served) -> None:
    reply = served.exchange(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + _LIVE)
    assert reply.startswith(b"HTTP/1.1 404 ")
    assert reply.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        _INFER + b"Content-Length: abc\r\n\r\n",
        _INFER + b"Content-Length: -1\r\n\r\n",
        _INFER + b"Content-Length: 99999999999999999999999\r\n\r\n",
        _INFER + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        _INFER + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _INFER + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET /v2 HTTP/1.1\r\nbad header\r\n\r\n",
    ],
)
def test_what_is_not_http_is_answered_400_and_closed(served: Served, sent: bytes) -> None:
    reply = served.exchange(sent)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert reply.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close\r\n" in reply
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"].startswith("malformed HTTP request: ")
    assert served.get("/v2/health/live").status == 200


def test_requests_before_a_malformed_one_are_answered_first(own_served: Served) -> None:
    own_served.call(lambda: setattr(own_served.fake, "hold", True))
    with own_served.socket() as connection:
        connection.sendall(_identified(1) + _identified(2) + b"garbage\r\n\r\n")
        for count in (1, 2):
            own_served.wait_until(lambda count=count: len(own_served.fake.requests) == count)  # type: ignore[misc]
            own_served.call(own_served.fake.release)
        replies = read_to_end(connection)
    assert replies.index(b'{"id":"1"') < replies.index(b'{"id":"2"') < replies.index(b"malformed HTTP request")


def test_a_head_without_end_is_refused(served: Served) -> None:
    reply = served.exchange(b"GET /v2 HTTP/1.1\r\n" + b"x-filler: 0123456789\r\n" * 30_000)
    assert reply.startswith(b"HTTP/1.1 431 ")
    assert b'{"error":"request head exceeds 65536 bytes"}' in reply


def test_chunks_of_framing_and_no_data_are_refused() -> None:
    with serving(max_input_bytes=1000) as served:
        trailers = b"x-filler: 0123456789\r\n" * 30_000
        reply = served.exchange(_INFER + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n" + trailers)
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert b"chunked request body has far more framing than data" in reply


def test_a_client_that_goes_away_gives_its_request_up(own_served: Served) -> None:
    own_served.call(lambda: setattr(own_served.fake, "hold", True))
    with own_served.socket() as connection:
        connection.sendall(_infer())
        own_served.wait_until(lambda: own_served.fake.held == 1)
    own_served.wait_until(lambda: own_served.fake.cancelled == 1)
    assert own_served.get("/v2/health/live").status == 200


def test_a_client_that_goes_away_mid_request_leaves_nothing_behind(own_served: Served) -> None:
    with own_served.socket() as connection:
        connection.sendall(_infer()[:-5])
    assert own_served.get("/v2/health/live").status == 200
    own_served.wait_until(lambda: own_served.server.listener.connection_count == 0)
    assert own_served.fake.requests == []


def test_a_client_that_does_not_read_stops_being_served_more() -> None:
    size = 4_000_000
    body = b"\0" * size
    raw = _INFER + b"Inference-Header-Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % size + body
    with serving() as served, served.socket() as connection:
        connection.setblocking(False)
        sent = 0
        data = memoryview(raw * 12)
        stalled = 0
        while stalled < 200 and sent < len(data):
            try:
                sent += connection.send(data[sent : sent + (1 << 16)])
                stalled = 0
            except BlockingIOError:
                stalled += 1
                served.call(lambda: None)  # a round trip through the server's loop
        assert len(served.call(lambda: list(served.fake.requests))) < 12
        connection.setblocking(True)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_reads_nothing_is_cut_off_after_the_idle_timeout(own_served: Served) -> None:
    body = b"\0" * 30_000_000
    with own_served.socket() as connection:
        connection.sendall(_infer(body, b"Inference-Header-Content-Length: 0\r\n"))
        listener = own_served.server.listener
        own_served.call(lambda: listener._sweeper.cancel())  # time is what the test says
        own_served.wait_until(lambda: any(each._transport.get_write_buffer_size() for each in listener._connections))
        own_served.sweep(100)
        own_served.sweep(500)
        assert own_served.call(lambda: listener.connection_count) == 1
        later = itertools.count(1400, 700)  # as long as the system still takes something, the connection is kept

        def cut_off() -> bool:
            own_served.sweep(next(later))
            return own_served.call(lambda: listener.connection_count) == 0

        wait_until(cut_off)


def test_a_request_that_stops_half_way_is_timed_out() -> None:
    with serving(request_timeout_s=0.2) as served:
        for half in (b"GET /v2 HTT", _infer()[:-5]):
            reply = served.exchange(half)
            assert reply.startswith(b"HTTP/1.1 408 ")
            assert b"request was not completed within 0.2 seconds; send it again" in reply


def test_a_request_that_came_half_way_behind_others_is_not_late(own_served: Served) -> None:
    own_served.call(lambda: setattr(own_served.fake, "hold", True))
    with own_served.socket() as connection:
        connection.sendall(_infer() + _infer() + _infer()[:20])
        open_ones = own_served.server.listener._connections
        own_served.wait_until(lambda: any(each._waiting and each._reader.receiving for each in open_ones))
        own_served.sweep(100)
        own_served.call(own_served.fake.release)
        own_served.wait_until(lambda: len(own_served.fake.requests) == 2)
        own_served.sweep(40)
        own_served.call(lambda: setattr(own_served.fake, "hold", False))
        own_served.call(own_served.fake.release)
        connection.sendall(_infer()[20:])
        assert read_replies(connection, 3).count(b"HTTP/1.1 200 OK") == 3


def test_a_connection_at_rest_is_closed_after_the_idle_timeout(own_served: Served) -> None:
    with own_served.socket() as connection:
        connection.sendall(_LIVE)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
        own_served.sweep(500)
        connection.sendall(_LIVE)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
        own_served.sweep(601)
        assert connection.recv(1) == b""


def test_a_request_that_takes_long_is_not_an_idle_connection(own_served: Served) -> None:
    own_served.call(lambda: setattr(own_served.fake, "hold", True))
    with own_served.socket() as connection:
        connection.sendall(_infer())
        own_served.wait_until(lambda: own_served.fake.held == 1)
        own_served.sweep(100_000)
        own_served.call(own_served.fake.release)
        assert read_replies(connection, 1).startswith(b"HTTP/1.1 200 OK")


def test_a_refused_upload_is_read_on_only_for_a_while(own_served: Served) -> None:
    with own_served.socket() as connection:
        connection.sendall(_INFER + b"Content-Length: 999999999\r\n\r\n")
        assert read_to_end(connection).startswith(b"HTTP/1.1 400 ")
        connection.sendall(b"more")
        assert own_served.call(lambda: own_served.server.listener.connection_count) == 1
        own_served.sweep(31)
        own_served.wait_until(lambda: own_served.server.listener.connection_count == 0)


def test_drain_finishes_requests_in_flight_and_accepts_no_more() -> None:
    with serving() as served, served.socket() as idle, served.socket() as busy:
        idle.sendall(_LIVE)
        assert idle.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
        served.call(lambda: setattr(served.fake, "hold", True))
        busy.sendall(_infer())
        served.wait_until(lambda: served.fake.held == 1)
        drained = served.start(served.server.drain(100))
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            served.socket()
        served.call(served.fake.release)
        reply = read_to_end(busy)
        assert reply.startswith(b"HTTP/1.1 200 OK")
        assert b"Connection: close\r\n" in reply
        drained()


def test_drain_cuts_off_what_does_not_finish_in_time() -> None:
    with serving() as served, served.socket() as busy:
        served.call(lambda: setattr(served.fake, "hold", True))
        busy.sendall(_infer())
        served.wait_until(lambda: served.fake.held == 1)
        served.run(served.server.drain(0.05))
        served.wait_until(lambda: served.fake.cancelled == 1)
        assert busy.recv(1) == b""


def test_a_taken_port_is_an_error_that_says_so() -> None:
    with serving() as served:

        async def second() -> None:
            await HttpServer(FakeServer(), HttpOptions(host="127.0.0.1", port=served.port)).start()

        with pytest.raises(UnavailableError, match=f"Socket '127.0.0.1:{served.port}' cannot be listened on"):
            asyncio.run(second())


class _ScriptedApp:
    """Answers from a table of paths; `/slow` waits for a future that fails when told to."""

    needs_raw_headers = False

    def __init__(self) -> None:
        self.slow: asyncio.Future[Reply] | None = None

    def dispatch(self, request: HttpRequest) -> Outcome:
        if request.target == b"/raise":
            raise RuntimeError("dispatch")
        if request.target == b"/coroutine":
            return Pending(self._coroutine(), lambda value: Pending(self._coroutine(), lambda _: json_reply(value)))
        if request.target == b"/finish":
            return Pending(self._coroutine(), self._fail)
        return empty_reply()

    def failure(self, error: BaseException) -> Reply:
        return error_reply(500, f"{type(error).__name__}: {error}")

    async def _coroutine(self) -> int:
        await asyncio.sleep(0)
        return 7

    def _fail(self, value: object) -> Outcome:
        raise RuntimeError(f"finish {value}")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/coroutine", b"\r\n\r\n7"),
        (b"/raise", b'{"error":"RuntimeError: dispatch"}'),
        (b"/finish", b'{"error":"RuntimeError: finish 7"}'),
    ],
)
def test_errors_anywhere_become_replies_and_pending_replies_may_follow_each_other(
    path: bytes, expected: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def exchange() -> bytes:
        listener = Listener(_ScriptedApp(), Limits())
        await listener.start("127.0.0.1", 0, False)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
        reply = await reader.read()
        writer.close()
        await writer.wait_closed()
        await listener.close()
        return reply

    assert asyncio.run(exchange()).endswith(expected)
    logged = [(record.getMessage(), bool(record.exc_info)) for record in caplog.records]
    failed = b"error" in expected
    assert logged == [(f"GET {path.decode()}: unexpected error while answering", True)] * failed


def test_large_binary_replies_arrive_before_the_connection_closes(served: Served) -> None:
    size = 1_000_000
    raw = b"Inference-Header-Content-Length: 0\r\nConnection: close\r\n"
    body = struct.pack("<f", 1.5) * (size // 4)
    assert served.exchange(_infer(body, raw)).endswith(body)
