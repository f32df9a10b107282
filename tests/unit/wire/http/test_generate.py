"""The generate endpoints. What Triton answers to every kind of request is recorded in tests/compat."""

from __future__ import annotations

import json
import socket
from typing import Any

import numpy as np
import pytest

from conch.errors import BackendError, InvalidArgumentError
from conch.inference import InferResponse
from conch.tensor import DataType, Tensor
from tests.unit.wire.http.harness import Answer, Served, read_to_end, serving

_EVENTS = "text/event-stream; charset=utf-8"
_NOT_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number "
    "of responses"
)


def generate(served: Served, model: str, body: bytes | object, suffix: str = "", **headers: str) -> Answer:
    return served.post(f"/v2/models/{model}/generate{suffix}", body, headers)


def raw(model: str, body: object, suffix: str = "_stream", version: str = "1.1") -> bytes:
    text = json.dumps(body).encode()
    head = f"POST /v2/models/{model}/generate{suffix} HTTP/{version}\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


def number(value: float, request_id: str = "") -> InferResponse:
    data = np.array([value], np.float32).tobytes()
    return InferResponse("decoupled", "1", request_id, (Tensor("OUTPUT0", DataType.FP32, (1,), data),))


def event(value: float) -> bytes:
    return f'data: {{"OUTPUT0":{value},"model_name":"decoupled","model_version":"1"}}\n\n'.encode()


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def read_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        more = connection.recv(1 << 16)
        assert more, received
        received += more
    return received


def holding(served: Served) -> Served:
    served.call(lambda: setattr(served.fake, "hold", True))
    return served


def test_outputs_stand_beside_model_and_id_in_order(served: Served) -> None:
    answer = generate(served, "simple", {"INPUT1": list(range(16)), "INPUT0": [7] * 16, "id": "x"})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert list(answer.json) == ["OUTPUT0", "OUTPUT1", "id", "model_name", "model_version"]


def test_an_answer_has_a_length_and_is_in_one_piece(served: Served) -> None:
    answer = generate(served, "one_string", {"INPUT0": "hi"})
    assert answer.headers["content-length"] == str(len(answer.body))
    assert "transfer-encoding" not in answer.headers


def test_one_response_is_one_event(served: Served) -> None:
    answer = generate(served, "one_string", {"INPUT0": "hi"}, "_stream")
    assert (answer.status, answer.headers["content-type"]) == (200, _EVENTS)
    assert answer.body == b'data: {"OUTPUT0":"hi","model_name":"one_string","model_version":"1"}\n\n'


@pytest.mark.parametrize("suffix", ["", "_stream"])
@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"[", 500, "failed to parse the request JSON buffer: Invalid value. at 1"),
        (b"[1]", 500, "attempt to get members for non-object"),
        ({"INPUT0": "x"}, 500, "Unable to parse 'data': attempt to access JSON non-number as double"),
        ({"INPUT0": [[1, 2]]}, 500, "Unable to parse 'data': Shape does not match true shape of 'data' field"),
        ({"x": {}}, 400, "parameter 'x' has invalid type. It should be either 'int', 'bool', or 'string'."),
        (b'{"INPUT0":1,"INPUT0":2}', 400, "[request id: <id_unknown>] input 'INPUT0' already exists in request"),
        (
            b'{"INPUT0":1,"\\u0049NPUT0":2,"id":3}',
            500,
            "Unable to parse 'id': attempt to access JSON non-string as string",
        ),
        (
            b'{"INPUT0":' + b"[" * 3000 + b"]" * 3000 + b"}",
            500,
            "failed to parse the request JSON buffer: Nested too deeply.",
        ),
    ],
)
def test_bad_bodies_are_refused_in_the_same_way(
    served: Served, suffix: str, body: bytes | object, status: int, error: str
) -> None:
    answer = generate(served, "id_FP32", body, suffix)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert answer.error.startswith(error)


def test_compressed_bodies_are_refused(served: Served) -> None:
    answer = generate(served, "id_FP32", b"x", **{"Content-Encoding": "gzip"})
    assert (answer.status, answer.error) == (400, "Unsupported content-encoding, only 'identity' is supported.")


def test_parameters_reach_the_model_and_none_has_a_meaning(own_served: Served) -> None:
    body = {"INPUT0": 1.0, "timeout": 5, "sequence_id": 3, "triton_x": True, "parameters": {"y": "z"}}
    assert generate(own_served, "id_FP32", body).status == 200
    request = own_served.fake.requests[0]
    assert request.parameters == {"timeout": 5, "sequence_id": 3, "triton_x": True, "y": "z"}
    assert (request.timeout_us, request.correlation_id) == (0, 0)


def test_error_of_the_model_is_400_in_the_form_of_the_endpoint(own_served: Served) -> None:
    for suffix, body in (("", b'{"error":"went wrong"}'), ("_stream", b'data: {"error":"went wrong"}\n\n')):
        holding(own_served)
        with own_served.socket() as connection:
            connection.sendall(raw("id_FP32", {"INPUT0": 1}, suffix))
            own_served.wait_until(lambda: own_served.fake.held == 1)
            own_served.call(lambda: own_served.fake.end(BackendError("went wrong")))
            reply = read_until(connection, body)
        assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_output_without_a_json_form_is_an_error(own_served: Served) -> None:
    half = Tensor("OUTPUT0", DataType.FP16, (1,), b"\0\0")
    own_served.call(lambda: setattr(own_served.fake, "answer_with", (half,)))
    answer = generate(own_served, "id_FP32", {"INPUT0": 1})
    assert (answer.status, answer.error[:20]) == (400, "sending FP16 data vi")
    assert b'data: {"error":"sending FP16' in generate(own_served, "id_FP32", {"INPUT0": 1}, "_stream").body


@pytest.mark.parametrize(
    ("before", "last", "status", "expected"),
    [
        ([], number(1), 200, {"OUTPUT0": 1.0, "model_name": "decoupled", "model_version": "1"}),
        ([], None, 200, {"error": _NOT_ONE}),
        ([number(1)], None, 200, {"OUTPUT0": 1.0, "model_name": "decoupled", "model_version": "1"}),
        ([number(1), number(2)], None, 200, {"error": _NOT_ONE}),
        ([number(1), number(2)], number(3), 200, {"error": _NOT_ONE}),
        ([BackendError("no")], None, 400, {"error": "no"}),
        ([], BackendError("no"), 400, {"error": "no"}),
        ([BackendError("no"), number(1)], None, 400, {"error": _NOT_ONE}),
    ],
)
def test_generate_takes_exactly_one_response_of_a_decoupled_model(
    own_served: Served, before: list[Any], last: Any, status: int, expected: object
) -> None:
    holding(own_served)
    with own_served.socket() as connection:
        connection.sendall(raw("decoupled", {"INPUT0": 1}, ""))
        own_served.wait_until(lambda: own_served.fake.held == 1)
        for outcome in before:
            own_served.call(lambda outcome=outcome: own_served.fake.emit(outcome))
        end = InferResponse("decoupled", "1", "", (), empty=True) if last is None else last
        own_served.call(lambda: own_served.fake.end(end))
        reply = read_until(connection, b"}")
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(body) == expected


def test_events_go_out_as_responses_come(own_served: Served) -> None:
    holding(own_served)
    with own_served.socket() as connection:
        connection.sendall(raw("decoupled", {"INPUT0": 1}))
        own_served.wait_until(lambda: own_served.fake.held == 1)
        own_served.call(lambda: own_served.fake.emit(number(1)))
        reply = read_until(connection, chunk(event(1.0)))
        assert reply.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: " + _EVENTS.encode())
        assert b"\r\nTransfer-Encoding: chunked\r\n" in reply
        own_served.call(lambda: own_served.fake.emit(InvalidArgumentError("odd")))
        assert read_until(connection, b"\n\n\r\n") == chunk(b'data: {"error":"odd"}\n\n')
        own_served.call(lambda: own_served.fake.end(number(2)))
        assert read_until(connection, b"0\r\n\r\n") == chunk(event(2.0)) + b"0\r\n\r\n"
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")


def test_request_that_was_pipelined_is_answered_after_the_stream(own_served: Served) -> None:
    holding(own_served)
    with own_served.socket() as connection:
        connection.sendall(raw("decoupled", {"INPUT0": 1}) + b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        own_served.wait_until(lambda: own_served.fake.held == 1)
        own_served.call(lambda: own_served.fake.end(number(1)))
        reply = read_until(connection, b"Content-Length: 0\r\n\r\n")
    assert reply.count(b"HTTP/1.1 200 OK") == 2
    assert b"0\r\n\r\nHTTP/1.1 200 OK" in reply


def test_stream_without_an_event_is_empty(own_served: Served) -> None:
    holding(own_served)
    with own_served.socket() as connection:
        connection.sendall(raw("decoupled", {"INPUT0": 1}))
        own_served.wait_until(lambda: own_served.fake.held == 1)
        own_served.call(lambda: own_served.fake.end(InferResponse("decoupled", "1", "", (), empty=True)))
        assert b"Content-Length: 0\r\n\r\n" in read_until(connection, b"\r\n\r\n")


def test_http_1_0_client_gets_the_bare_events(own_served: Served) -> None:
    holding(own_served)
    with own_served.socket() as connection:
        connection.sendall(raw("decoupled", {"INPUT0": 1}, version="1.0"))
        own_served.wait_until(lambda: own_served.fake.held == 1)
        own_served.call(lambda: own_served.fake.emit(number(1)))
        own_served.call(lambda: own_served.fake.end(number(2)))
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert body == event(1.0) + event(2.0)


@pytest.mark.parametrize("began", [False, True])
def test_client_that_goes_away_gives_a_stream_up(own_served: Served, began: bool) -> None:
    holding(own_served)
    with own_served.socket() as connection:
        connection.sendall(raw("decoupled", {"INPUT0": 1}))
        own_served.wait_until(lambda: own_served.fake.held == 1)
        if began:
            own_served.call(lambda: own_served.fake.emit(number(1)))
            read_until(connection, chunk(event(1.0)))
    own_served.wait_until(lambda: own_served.fake.cancelled == 1)
    assert own_served.get("/v2/health/live").status == 200


def test_stream_waits_for_a_client_that_does_not_read(own_served: Served) -> None:
    holding(own_served)
    with own_served.socket() as connection:
        connection.sendall(raw("decoupled", {"INPUT0": 1}))
        own_served.wait_until(lambda: own_served.fake.held == 1)

        def emit_many() -> None:
            for value in range(50_000):
                own_served.fake.emit(number(value))
            own_served.fake.end(number(-1))

        own_served.call(emit_many)
        received = read_until(connection, b"0\r\n\r\n")
    assert received.count(b"data: ") == 50_001
    assert received.endswith(chunk(event(-1.0)) + b"0\r\n\r\n")


def test_stream_of_a_client_that_never_reads_is_given_up(own_served: Served) -> None:
    holding(own_served)
    with own_served.socket() as connection:
        connection.sendall(raw("decoupled", {"INPUT0": 1}))
        own_served.wait_until(lambda: own_served.fake.held == 1)

        def emit_too_many() -> None:
            for value in range((1 << 16) + 2):
                own_served.fake.emit(number(value))

        own_served.call(emit_too_many)
        own_served.wait_until(lambda: own_served.fake.cancelled == 1)
        received = read_until(connection, b"0\r\n\r\n")
    assert received.count(b"data: ") == (1 << 16) + 1
    assert b'data: {"error":"request was cancelled: the client left 65536 responses unread"}' in received


def test_failure_that_nobody_foresaw_cuts_the_stream(own_served: Served, caplog: pytest.LogCaptureFixture) -> None:
    holding(own_served)
    with own_served.socket() as connection:
        connection.sendall(raw("decoupled", {"INPUT0": 1}))
        own_served.wait_until(lambda: own_served.fake.held == 1)
        own_served.call(lambda: own_served.fake.emit(number(1)))
        read_until(connection, chunk(event(1.0)))
        own_served.call(lambda: own_served.fake.end(RuntimeError("broken")))
        assert read_to_end(connection) == b""
    assert "RuntimeError: broken" in caplog.text


def test_drain_lets_a_stream_end_and_closes() -> None:
    with serving() as served, served.socket() as connection:
        holding(served)
        connection.sendall(raw("decoupled", {"INPUT0": 1}))
        served.wait_until(lambda: served.fake.held == 1)
        served.call(lambda: served.fake.emit(number(1)))
        read_until(connection, chunk(event(1.0)))
        drained = served.start(served.server.drain(20))
        served.call(lambda: served.fake.end(number(2)))
        assert read_to_end(connection) == chunk(event(2.0)) + b"0\r\n\r\n"
        drained()
