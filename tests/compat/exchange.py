"""Sends a request to a server and puts its answer into words."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import msgspec
from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from .messages import (
    PATIENCE_S,
    Answer,
    Concurrent,
    ConcurrentAnswer,
    GrpcAnswer,
    GrpcRequest,
    HttpAnswer,
    HttpRequest,
    Request,
    Scenario,
)
from .normalise import normalise
from .shared_objects import with_own_names, with_written_names

SETTLE_TIMEOUT_S = 15.0
SETTLE_INTERVAL_S = 0.2
HEADERS_THAT_MATTER = (
    "content-type",
    "content-encoding",
    "accept-encoding",
    "inference-header-content-length",
)
SERVICE = "inference.GRPCInferenceService"
COMPRESSIONS = {"": None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


class Target(msgspec.Struct, frozen=True):
    """The ports of a server on this host."""

    http: int
    grpc: int
    metrics: int


def play(scenario: Scenario, target: Target, repository: str) -> Answer:
    """Sends a scenario and normalises its answer."""
    answer = send_and_normalise(scenario.request, target, repository)
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while scenario.settle and time.monotonic() < deadline:
        time.sleep(SETTLE_INTERVAL_S)
        before, answer = answer, send_and_normalise(scenario.request, target, repository)
        if answer == before and "LOADING" not in str(answer):
            break
    return answer


def send_and_normalise(request: Request, target: Target, repository: str) -> Answer:
    return normalise(with_written_names(send(with_own_names(request), target)), repository)


def send(request: Request, target: Target) -> Answer:
    """The answer as it came, before normalisation."""
    match request:
        case HttpRequest():
            return send_http(request, target)
        case GrpcRequest():
            return send_grpc(request, target)
        case Concurrent():
            return send_concurrently(request, target)


def send_concurrently(request: Concurrent, target: Target) -> ConcurrentAnswer:
    answers: dict[int, HttpAnswer | GrpcAnswer] = {}

    def send_one(index: int, one: HttpRequest | GrpcRequest) -> None:
        answers[index] = send_http(one, target) if isinstance(one, HttpRequest) else send_grpc(one, target)

    threads = [threading.Thread(target=send_one, args=pair) for pair in enumerate(request.requests)]
    for thread in threads:
        thread.start()
        time.sleep(request.interval_s)
    for thread in threads:
        thread.join()
    return ConcurrentAnswer([answers[index] for index in range(len(threads))])


def send_http(request: HttpRequest, target: Target) -> HttpAnswer:
    port = target.metrics if request.port == "metrics" else target.http
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.putrequest(request.method, request.path, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        if request.chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif request.body or request.method not in ("GET", "HEAD"):
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(pieces(request), encode_chunked=bool(request.chunked))
        response = connection.getresponse()
        return read_http(response, response.read())
    except (http.client.HTTPException, OSError) as error:
        return HttpAnswer(failure=type(error).__name__)
    finally:
        connection.close()


def pieces(request: HttpRequest) -> Iterator[bytes]:
    size = request.chunked or max(1, len(request.body))
    for start in range(0, len(request.body), size):
        yield request.body[start : start + size]


def read_http(response: http.client.HTTPResponse, body: bytes) -> HttpAnswer:
    headers = {name: value for name in HEADERS_THAT_MATTER if (value := response.getheader(name)) is not None}
    match headers.get("content-encoding"):
        case "gzip":
            body = gzip.decompress(body)
        case "deflate":
            body = zlib.decompress(body)
    json_length = int(headers.get("inference-header-content-length", len(body)))
    head, tail = body[:json_length], body[json_length:]
    if head.startswith(b"# HELP"):
        return HttpAnswer(response.status, headers, lines=body.decode().splitlines())
    if headers.get("content-type", "").startswith("text/event-stream") and (events := read_events(body)) is not None:
        return HttpAnswer(response.status, headers, events=events)
    try:
        return HttpAnswer(response.status, headers, json=json.loads(head, parse_constant=refuse), binary=tail)
    except ValueError:
        return read_plain(response.status, headers, body)


def read_events(body: bytes) -> list[Any] | None:
    """The documents of server-sent events, None if they are framed in any other way than `data: {...}` and two ends of
    line."""
    *frames, rest = body.split(b"\n\n")
    if rest or not all(frame.startswith(b"data: {") and b"\n" not in frame for frame in frames):
        return None
    return [json.loads(frame.removeprefix(b"data: ")) for frame in frames]


def refuse(constant: str) -> Any:
    raise ValueError(f"JSON has no {constant}")


def read_plain(status: int, headers: dict[str, str], body: bytes) -> HttpAnswer:
    try:
        return HttpAnswer(status, headers, text=body.decode())
    except UnicodeDecodeError:
        return HttpAnswer(status, headers, binary=body)


def message_types(method: str) -> tuple[type[Message], type[Message]] | None:
    """The request and response classes of a method of Triton's service, None for any other."""
    found = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name.get(method)
    if found is None:
        return None
    return getattr(service_pb2, found.input_type.name), getattr(service_pb2, found.output_type.name)


def send_grpc(request: GrpcRequest, target: Target) -> GrpcAnswer:
    types = message_types(request.method)
    path = request.method if request.method.startswith("/") else f"/{SERVICE}/{request.method}"
    payloads = [encode(message, types) for message in request.messages]
    if request.raw is not None:
        payloads = [request.raw]
    options = {
        "timeout": request.timeout_s,
        "metadata": tuple(request.metadata.items()),
        "compression": COMPRESSIONS[request.compression],
    }
    received: list[bytes] = []
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{target.grpc}", options=limits) as channel:
        if request.timeout_s != PATIENCE_S:  # a deadline is for the call, not for the connection
            grpc.channel_ready_future(channel).result(PATIENCE_S)
        try:
            if request.method == "ModelStreamInfer":
                received.extend(channel.stream_stream(path)(iter(payloads), **options))
            else:
                received.append(channel.unary_unary(path)(payloads[0], **options))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and request.timeout_s == PATIENCE_S:
                return GrpcAnswer(failure="no answer in time")
            return GrpcAnswer(error.code().name, error.details() or "", decode(received, types))
    return GrpcAnswer("OK", "", decode(received, types))


def encode(message: dict[str, Any], types: tuple[type[Message], type[Message]] | None) -> bytes:
    if types is None:
        raise ValueError(f"a method outside {SERVICE} takes raw bytes only, got {message}")
    return json_format.ParseDict(message, types[0]()).SerializeToString()


def decode(received: list[bytes], types: tuple[type[Message], type[Message]] | None) -> list[Any]:
    if types is None:
        return [payload.hex() for payload in received]
    return [
        json_format.MessageToDict(types[1].FromString(payload), preserving_proto_field_name=True)
        for payload in received
    ]
