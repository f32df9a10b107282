"""HTTP/2 to the letter: what well- and ill-behaved clients send, byte by byte."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Iterator

import pytest
from tritonclient.grpc import service_pb2 as pb

from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.frames import ErrorCode, encode_frame
from conch.wire.grpc.http2.lifetime import Lifetime
from conch.wire.grpc.http2.limits import Http2Limits
from tests.unit.wire.grpc.conftest import Endpoint, StartEndpoint
from tests.unit.wire.grpc.messages import infer_request
from tests.unit.wire.grpc.raw_client import INFER, LIVE, STREAM, RawClient, framed

REQUEST = framed(infer_request(request_id="r").SerializeToString())


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[RawClient]:
    with RawClient(endpoint.port) as client:
        yield client


def answered(client: RawClient, stream_id: int) -> bool:
    """Whether the stream ended with an OK and the echo of REQUEST."""
    fields, data = client.answer(stream_id)
    return fields["grpc-status"] == "0" and pb.ModelInferResponse.FromString(data[5:]).id == "r"


def test_unary_call_is_answered(client: RawClient) -> None:
    client.open(1)
    client.data(1, REQUEST)
    assert answered(client, 1)


def test_every_cut_of_the_byte_stream_gives_the_same_answer(endpoint: Endpoint) -> None:
    with RawClient(endpoint.port, greet=False) as client:
        block = frames.encode_header_block(1, client.headers(), False, 16384)
        whole = frames.PREFACE + frames.encode_settings({}) + block
        whole += encode_frame(frames.DATA, frames.END_STREAM, 1, REQUEST)
        for index in range(len(whole)):
            client.send(whole[index : index + 1])
        assert answered(client, 1)


def test_message_may_be_cut_into_any_frames(client: RawClient) -> None:
    client.open(1)
    for index in range(0, len(REQUEST), 3):
        client.data(1, REQUEST[index : index + 3], end=False)
    client.data(1, b"")
    assert answered(client, 1)


LARGE = framed(infer_request(request_id="r", raw=bytes(range(256)) * 2400, shape=(153_600,)).SerializeToString())


@pytest.fixture
def roomy(endpoint: Endpoint) -> Iterator[RawClient]:
    """A client whose windows take a large answer."""
    with RawClient(endpoint.port, {frames.SETTINGS_INITIAL_WINDOW_SIZE: 1 << 22}) as client:
        client.send(frames.encode_window_update(0, 1 << 22))
        yield client


def large_answer(client: RawClient, stream_id: int) -> bytes:
    fields, data = client.answer(stream_id)
    assert fields["grpc-status"] == "0"
    return pb.ModelInferResponse.FromString(data[5:]).raw_output_contents[0]


@pytest.mark.parametrize("first", [1, 9, 14, 9 + 5 + 30, 100_000])
def test_a_large_frame_may_come_in_pieces(roomy: RawClient, first: int) -> None:
    sent = encode_frame(frames.DATA, frames.END_STREAM, 1, LARGE)
    roomy.open(1)
    for piece in (sent[:first], sent[first:-1], sent[-1:] + encode_frame(frames.PRIORITY, 0, 1, bytes(5))):
        roomy.send(piece)
    assert large_answer(roomy, 1) == bytes(range(256)) * 2400
    roomy.open(3)
    roomy.data(3, REQUEST)
    assert answered(roomy, 3)


def test_a_large_message_may_come_in_large_frames(roomy: RawClient) -> None:
    roomy.open(1)
    for start in range(0, len(LARGE), 200_000):
        roomy.data(1, LARGE[start : start + 200_000], end=start + 200_000 >= len(LARGE))
    assert large_answer(roomy, 1) == bytes(range(256)) * 2400


def test_a_client_may_vanish_amid_a_large_frame(endpoint: Endpoint) -> None:
    with RawClient(endpoint.port) as client:
        client.open(1)
        client.send(encode_frame(frames.DATA, frames.END_STREAM, 1, LARGE)[:400_000])
    with RawClient(endpoint.port) as client:
        client.open(1)
        client.data(1, REQUEST)
        assert answered(client, 1)


def test_padding_is_ignored_and_counted(client: RawClient) -> None:
    block = client.headers()
    padded = bytes([7]) + block + bytes(7)
    client.send(encode_frame(frames.HEADERS, frames.END_HEADERS | frames.PADDED, 1, padded))
    payload = bytes([200]) + REQUEST + bytes(200)
    client.send(encode_frame(frames.DATA, frames.PADDED | frames.END_STREAM, 1, payload))
    assert answered(client, 1)


def test_priority_in_headers_and_alone_is_ignored(client: RawClient) -> None:
    client.send(encode_frame(frames.PRIORITY, 0, 1, bytes(5)))
    block = bytes(5) + client.headers()
    client.send(encode_frame(frames.HEADERS, frames.END_HEADERS | frames.PRIORITY_FLAG, 1, block))
    client.data(1, REQUEST)
    assert answered(client, 1)


def test_header_block_may_continue_over_frames(client: RawClient) -> None:
    client.send(frames.encode_header_block(1, client.headers(x_long="v" * 300), False, 20))
    client.data(1, REQUEST)
    assert answered(client, 1)


def test_trailers_of_the_client_end_its_side(client: RawClient) -> None:
    client.open(1)
    client.data(1, REQUEST, end=False)
    trailers = client.encoder.encode([("x-trailer", "1")])
    client.send(frames.encode_header_block(1, trailers, True, 16384))
    assert answered(client, 1)


def test_calls_go_on_after_one_is_reset(client: RawClient, endpoint: Endpoint) -> None:
    client.open(1)
    client.data(1, framed(infer_request("wait").SerializeToString()))
    assert endpoint.server.arrived.acquire(timeout=60)
    client.send(frames.encode_rst_stream(1, ErrorCode.CANCEL))
    assert endpoint.server.cancelled.wait(60)
    client.open(3)
    client.data(3, REQUEST)
    assert answered(client, 3)


def test_unknown_frames_settings_and_flags_are_ignored(client: RawClient) -> None:
    client.send(encode_frame(0x42, 0xFF, 0, b"what?") + frames.encode_settings({0x99: 1}))
    client.open(1)
    client.data(1, REQUEST)
    assert answered(client, 1)


def test_ping_is_acknowledged_with_its_payload(client: RawClient) -> None:
    client.send(frames.encode_ping(b"12345678", ack=False))
    assert client.until(frames.PING) == (frames.PING, frames.ACK, 0, b"12345678")


def test_settings_are_acknowledged(client: RawClient) -> None:
    while not (frame := client.until(frames.SETTINGS)).flags & frames.ACK:
        assert len(frame.payload) % 6 == 0
    assert frame.payload == b""


# Flow control


def test_answer_waits_for_the_windows_and_uses_them_to_the_byte(endpoint: Endpoint) -> None:
    raw = bytes(range(256)) * 1200
    with RawClient(endpoint.port, {frames.SETTINGS_INITIAL_WINDOW_SIZE: 1000}) as client:
        client.open(1)
        message = framed(infer_request(raw=raw).SerializeToString())
        for start in range(0, len(message), 16384):
            client.data(1, message[start : start + 16384], end=start + 16384 >= len(message))
        received = client.until(frames.DATA, 1).payload
        assert len(received) == 1000
        client.send(frames.encode_window_update(1, 1))
        received += client.until(frames.DATA, 1).payload
        assert len(received) == 1001
        client.send(frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 501_000}))
        while len(received) < 65535:  # the connection's window, which settings do not change
            received += client.until(frames.DATA, 1).payload
        assert len(received) == 65535
        client.send(frames.encode_window_update(0, 2**30))
        fields, rest = client.answer(1)
        assert fields["grpc-status"] == "0"
        assert pb.ModelInferResponse.FromString((received + rest)[5:]).raw_output_contents[0] == raw


def test_shrunken_window_may_be_negative_and_recovers(endpoint: Endpoint) -> None:
    with RawClient(endpoint.port, {frames.SETTINGS_INITIAL_WINDOW_SIZE: 10}) as client:
        client.open(1)
        client.data(1, REQUEST)
        received = client.until(frames.DATA, 1).payload
        client.send(frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}))
        client.send(frames.encode_window_update(1, 15))
        received += client.until(frames.DATA, 1).payload
        assert len(received) == 15
        client.send(frames.encode_window_update(1, 1000))
        assert client.answer(1)[0]["grpc-status"] == "0"


def test_one_blocked_stream_does_not_block_the_others(endpoint: Endpoint) -> None:
    with RawClient(endpoint.port, {frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}) as client:
        for stream_id in (1, 3):
            client.open(stream_id)
            client.data(stream_id, REQUEST)
        client.until(frames.HEADERS, 3)
        client.send(frames.encode_window_update(3, 1000))
        assert client.until(frames.DATA).stream_id == 3


def test_small_frames_are_made_when_the_client_takes_no_large_ones(endpoint: Endpoint) -> None:
    settings = {frames.SETTINGS_INITIAL_WINDOW_SIZE: 2**24, frames.SETTINGS_MAX_FRAME_SIZE: 16384}
    with RawClient(endpoint.port, settings) as client:
        client.send(frames.encode_window_update(0, 2**24))
        client.open(1)
        message = framed(infer_request(raw=bytes(200_000)).SerializeToString())
        for start in range(0, len(message), 16384):
            client.data(1, message[start : start + 16384], end=start + 16384 >= len(message))
        assert len(client.until(frames.DATA, 1).payload) == 16384


def test_more_data_than_the_stream_window_resets_the_stream(start: StartEndpoint) -> None:
    endpoint = start(limits=Http2Limits(stream_window_bytes=20_000))
    with RawClient(endpoint.port) as client:
        client.open(1)
        client.data(1, framed(bytes(20_000)), end=False)
        assert client.reset_code(1) is ErrorCode.FLOW_CONTROL_ERROR


def test_unread_messages_of_a_stream_hold_the_client_back(start: StartEndpoint) -> None:
    """The stream's handler waits for room among 1024 unanswered requests; the rest stays with the client."""
    window = 65_536
    endpoint = start(limits=Http2Limits(stream_window_bytes=window, max_ping_strikes=0))
    waiting = framed(infer_request("wait", raw=bytes(400)).SerializeToString())
    with RawClient(endpoint.port) as client:
        client.open(1, STREAM)
        sent, credit, fruitless = 0, window, 0
        while fruitless < 100:  # a hundred round trips without a grant: it is held back
            assert sent < 3000, "the server goes on granting"
            while credit >= len(waiting):
                client.data(1, waiting, end=False)
                credit -= len(waiting)
                sent += 1
            client.send(frames.encode_ping(b"are you?", ack=False))
            fruitless += 1
            while (frame := client.receive()) is not None and frame.kind != frames.PING:
                if frame.kind == frames.WINDOW_UPDATE and frame.stream_id == 1:
                    credit += int.from_bytes(frame.payload)
                    fruitless = 0
        assert len(endpoint.server.requests) == 1024
        assert sent - 1024 < 2 * window / len(waiting) + 1


# Protocol errors


OVERSIZED = struct.pack(">IBI", (1 << 20) + 1 << 8 | frames.DATA, 0, 1)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (encode_frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
        (encode_frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
        (frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 2**31}), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.encode_settings({frames.SETTINGS_MAX_FRAME_SIZE: 100}), ErrorCode.PROTOCOL_ERROR),
        (frames.encode_settings({frames.SETTINGS_ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (encode_frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (frames.encode_window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.encode_window_update(5, 1), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.RST_STREAM, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.RST_STREAM, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (encode_frame(frames.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.PUSH_PROMISE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.DATA, frames.PADDED, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.HEADERS, frames.END_HEADERS, 2, b"\x88"), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.HEADERS, frames.END_HEADERS, 0, b"\x88"), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (encode_frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xbe"), ErrorCode.COMPRESSION_ERROR),
        (encode_frame(frames.HEADERS, frames.END_HEADERS | frames.PRIORITY_FLAG, 1, b"ab"), ErrorCode.FRAME_SIZE_ERROR),
        (encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"\x88"), ErrorCode.PROTOCOL_ERROR),
        (encode_frame(frames.HEADERS, 0, 1, b"\x88") + frames.encode_ping(bytes(8), False), ErrorCode.PROTOCOL_ERROR),
        (
            encode_frame(frames.HEADERS, 0, 1, b"\x88") + encode_frame(frames.CONTINUATION, 0, 3, b"\x88"),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (
            encode_frame(frames.HEADERS, 0, 1, b"") + encode_frame(frames.CONTINUATION, 0, 1) * 40,
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
        (OVERSIZED, ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_protocol_errors_end_the_connection_with_their_code(client: RawClient, sent: bytes, code: ErrorCode) -> None:
    client.send(sent)
    assert client.goaway() is code


def test_what_is_not_http2_is_turned_away(endpoint: Endpoint) -> None:
    for greeting in (b"GET / HTTP/1.1\r\n\r\n", frames.PREFACE + frames.encode_ping(bytes(8), False)):
        with RawClient(endpoint.port, greet=False) as client:
            client.send(greeting)
            assert client.goaway() is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("frame_size", [16384, 100])
def test_header_list_has_a_limit(client: RawClient, frame_size: int) -> None:
    client.send(frames.encode_header_block(1, client.headers(x_big="~" * 20_000), False, frame_size))
    assert client.goaway() is ErrorCode.ENHANCE_YOUR_CALM


def test_header_bomb_is_defused(client: RawClient) -> None:
    """One large entry in the dynamic table, referred to a thousand times."""
    block = client.headers(x_big="v" * 3900)
    client.send(frames.encode_header_block(1, block + b"\xbe" * 1000, False, 16384))
    assert client.goaway() is ErrorCode.ENHANCE_YOUR_CALM


def test_data_after_the_end_resets_the_stream(client: RawClient, endpoint: Endpoint) -> None:
    client.open(1)
    client.data(1, framed(infer_request("wait").SerializeToString()))
    client.data(1, b"more")
    assert client.reset_code(1) is ErrorCode.STREAM_CLOSED
    assert endpoint.server.cancelled.wait(60)


def test_window_beyond_the_maximum_resets_the_stream(client: RawClient) -> None:
    client.open(1)
    client.send(frames.encode_window_update(1, 2**31 - 1))
    assert client.reset_code(1) is ErrorCode.FLOW_CONTROL_ERROR


def test_too_many_streams_are_refused(start: StartEndpoint) -> None:
    endpoint = start(limits=Http2Limits(max_concurrent_streams=2))
    with RawClient(endpoint.port) as client:
        for stream_id in (1, 3, 5):
            client.open(stream_id)
        assert client.reset_code(5) is ErrorCode.REFUSED_STREAM
        client.data(1, REQUEST)
        assert answered(client, 1)


def test_frames_of_a_stream_we_ended_are_ignored(client: RawClient) -> None:
    client.open(1, "/no/Such")
    assert client.answer(1)[0]["grpc-status"] == "12"
    client.data(1, REQUEST)
    client.send(frames.encode_window_update(1, 5) + frames.encode_rst_stream(1, ErrorCode.CANCEL))
    client.open(3)
    client.data(3, REQUEST)
    assert answered(client, 3)


# Floods


def test_rapid_resets_end_the_connection(start: StartEndpoint) -> None:
    with RawClient(start(limits=Http2Limits(resets_per_s=10)).port) as client:
        sent = b""
        for stream_id in range(1, 401, 2):
            sent += frames.encode_header_block(stream_id, client.headers(), False, 16384)
            sent += frames.encode_rst_stream(stream_id, ErrorCode.CANCEL)
        client.send(sent)
        assert client.goaway() is ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "frame",
    [
        frames.encode_settings({}),
        frames.encode_ping(bytes(8), ack=True),
        encode_frame(frames.PRIORITY, 0, 1, bytes(5)),
        encode_frame(frames.DATA, 0, 1),
    ],
)
def test_floods_of_empty_frames_end_the_connection(start: StartEndpoint, frame: bytes) -> None:
    with RawClient(start(limits=Http2Limits(controls_per_s=10)).port) as client:
        client.open(1)
        client.send(frame * 200)
        assert client.goaway() is ErrorCode.ENHANCE_YOUR_CALM


def test_pings_without_need_end_the_connection(client: RawClient) -> None:
    for _ in range(5):
        client.send(frames.encode_ping(bytes(8), ack=False))
    assert client.goaway() is ErrorCode.ENHANCE_YOUR_CALM


def test_pings_are_welcome_between_answers(client: RawClient) -> None:
    for stream_id in range(1, 21, 2):
        client.open(stream_id)
        client.data(stream_id, REQUEST)
        assert answered(client, stream_id)
        client.send(frames.encode_ping(bytes(8), ack=False))
        client.until(frames.PING)


# gRPC on HTTP/2


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ({"grpc_encoding": "snappy"}, "12"),
        ({"grpc_timeout": "soon"}, "13"),
        ({"key_bin": "%%%"}, "13"),
    ],
)
def test_heads_that_cannot_be_served_get_their_status(client: RawClient, extra: dict[str, str], status: str) -> None:
    client.open(1, **extra)
    assert client.answer(1)[0]["grpc-status"] == status


def test_unknown_compression_is_told_what_is_known(client: RawClient) -> None:
    client.open(1, grpc_encoding="snappy")
    assert client.answer(1)[0]["grpc-accept-encoding"] == "identity, deflate, gzip"


def test_plain_http_requests_get_plain_http_errors(client: RawClient) -> None:
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "t")]
    client.send(frames.encode_header_block(1, client.encoder.encode(fields), True, 16384))
    assert client.answer(1)[0][":status"] == "405"
    fields[0] = (":method", "POST")
    client.send(frames.encode_header_block(3, client.encoder.encode(fields), True, 16384))
    assert client.answer(3)[0][":status"] == "415"


@pytest.mark.parametrize(
    "fields",
    [
        [(":method", "POST"), (":scheme", "http")],
        [(":method", "POST"), (":method", "POST"), (":scheme", "http"), (":path", INFER)],
        [(":method", "POST"), (":scheme", "http"), ("a", "b"), (":path", INFER)],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("connection", "close")],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("Upper", "case")],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("te", "gzip")],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("a", "b\r\nc")],
    ],
)
def test_malformed_requests_reset_their_stream(client: RawClient, fields: list[tuple[str, str]]) -> None:
    client.send(frames.encode_header_block(1, client.encoder.encode(fields), False, 16384))
    assert client.reset_code(1) is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        (INFER, b"", "13"),
        (INFER, REQUEST[:-1], "13"),
        (INFER, REQUEST + b"\0", "13"),
        (INFER, REQUEST + REQUEST, "12"),
        (INFER, b"\x02" + REQUEST[1:], "13"),
        (INFER, b"\x01" + REQUEST[1:], "13"),
        (STREAM, REQUEST[:-1], "13"),
        (STREAM, framed(b"\xff\xff"), "13"),
    ],
)
def test_broken_messages_fail_the_call(client: RawClient, path: str, sent: bytes, status: str) -> None:
    client.open(1, path)
    client.data(1, sent)
    assert client.answer(1)[0]["grpc-status"] == status


def test_bad_compressed_message_fails_the_call(client: RawClient) -> None:
    client.open(1, grpc_encoding="gzip")
    client.data(1, framed(b"no gzip", flag=1))
    fields, _ = client.answer(1)
    assert fields["grpc-status"] == "13"
    assert "gzip" in fields["grpc-message"]


@pytest.mark.parametrize(("accepted", "used"), [("gzip", "gzip"), ("identity, deflate", "deflate"), ("br", None)])
def test_answers_are_compressed_as_the_client_accepts(start: StartEndpoint, accepted: str, used: str | None) -> None:
    endpoint = start(compression="low")
    with RawClient(endpoint.port) as client:
        client.open(1, grpc_accept_encoding=accepted)
        client.data(1, REQUEST)
        fields, data = client.answer(1)
        assert fields.get("grpc-encoding") == used
        assert data[0] == (0 if used is None else 1)
        content = data[5:] if used is None else zlib.decompress(data[5:], 31 if used == "gzip" else 15)
        assert pb.ModelInferResponse.FromString(content).id == "r"


def test_status_message_is_percent_encoded(client: RawClient) -> None:
    client.open(1, "/kleine/Größe%".encode().decode("latin-1"))
    fields, _ = client.answer(1)
    assert fields["grpc-message"].isascii()
    assert "%25" in fields["grpc-message"]


def test_call_is_answered_before_the_client_has_sent_everything_when_it_fails(client: RawClient) -> None:
    client.open(1)
    client.data(1, b"\x07", end=False)
    client.data(1, b"\0\0\0\0", end=False)
    assert client.answer(1)[0]["grpc-status"] == "13"
    assert client.reset_code(1) is ErrorCode.NO_ERROR


# The end of a connection


def test_drain_lets_open_calls_end_and_ignores_new_ones(client: RawClient, endpoint: Endpoint) -> None:
    client.open(1)
    client.data(1, framed(infer_request("wait", request_id="w").SerializeToString()))
    assert endpoint.server.arrived.acquire(timeout=60)
    draining = endpoint.call(lambda: asyncio.ensure_future(endpoint.grpc.drain(100)))
    first = client.until(frames.GOAWAY)
    assert struct.unpack(">II", first.payload[:8]) == (2**31 - 1, ErrorCode.NO_ERROR)
    client.open(3)
    client.data(3, REQUEST)
    ping = client.until(frames.PING)
    client.send(frames.encode_ping(ping.payload, ack=True))
    last = client.until(frames.GOAWAY)
    assert struct.unpack(">II", last.payload[:8]) == (3, ErrorCode.NO_ERROR)
    client.open(5, LIVE)
    client.data(5, framed(b""))
    endpoint.call(endpoint.server.release, "w")
    while (frame := client.receive()) is not None:
        assert frame.stream_id != 5
    endpoint.do(asyncio.wait_for(draining, 60))


def lifetime_of(client: RawClient, endpoint: Endpoint) -> Lifetime:
    """The timers of the only connection, whose client has been heard."""
    while not client.until(frames.SETTINGS).flags & frames.ACK:
        pass
    [connection] = endpoint.grpc._connections.open
    lifetime: Lifetime = connection.lifetime
    return lifetime


def test_old_connections_are_drained(start: StartEndpoint) -> None:
    endpoint = start(limits=Http2Limits(max_age_s=3600, max_age_grace_s=0.1))
    with RawClient(endpoint.port) as client:
        client.open(1)
        lifetime = lifetime_of(client, endpoint)
        assert "age" in lifetime._timers
        endpoint.call(lifetime._retire)
        client.until(frames.GOAWAY)
        # The grace is over without an answer to the ping, or to the call: the connection is closed.
        assert frames.DATA not in client.rest()


def test_silent_peers_are_closed(start: StartEndpoint) -> None:
    endpoint = start(limits=Http2Limits(keepalive_time_s=3600, keepalive_timeout_s=0.1, keepalive_without_calls=True))
    with RawClient(endpoint.port) as client:
        lifetime = lifetime_of(client, endpoint)
        assert "keepalive" in lifetime._timers
        endpoint.call(lifetime._keep_alive)  # the client has been heard since the last look
        endpoint.call(lifetime._keep_alive)
        client.until(frames.PING)
        assert client.rest() == []  # the ping stays unanswered: the connection is closed


def test_answered_keepalive_pings_keep_the_connection(start: StartEndpoint) -> None:
    limits = Http2Limits(keepalive_time_s=0.05, keepalive_timeout_s=3600, keepalive_without_calls=True)
    endpoint = start(limits=limits)
    with RawClient(endpoint.port) as client:
        lifetime = lifetime_of(client, endpoint)
        for _ in range(3):
            ping = client.until(frames.PING)
            client.send(frames.encode_ping(ping.payload, ack=True))
        client.open(1)
        client.data(1, REQUEST)
        assert answered(client, 1)
        assert "handshake" not in lifetime._timers


def test_peer_that_does_not_read_is_held_back(endpoint: Endpoint) -> None:
    """Sixteen answers of 8 MiB to a client with endless windows that reads nothing, and then all of it."""
    size = 8 << 20
    request = framed(infer_request("large", raw=size.to_bytes(4, "little")).SerializeToString())
    with RawClient(endpoint.port, {frames.SETTINGS_INITIAL_WINDOW_SIZE: 2**31 - 1}) as client:
        client.send(frames.encode_window_update(0, 2**31 - 1 - 65535))
        stream_ids = range(1, 33, 2)
        for stream_id in stream_ids:
            client.open(stream_id)
            client.data(stream_id, request)
        client.until(frames.HEADERS, stream_ids[-1])
        received = dict.fromkeys(stream_ids, 0)
        [connection] = endpoint.grpc._connections.open
        unwritten = endpoint.call(lambda: connection._transport.get_write_buffer_size())
        assert unwritten < 4 << 20
        ended = 0
        while ended < len(stream_ids):
            frame = client.receive()
            assert frame is not None
            if frame.kind == frames.DATA:
                received[frame.stream_id] += len(frame.payload)
            ended += frame.kind == frames.HEADERS and bool(frame.flags & frames.END_STREAM)
        assert max(received.values()) > size
