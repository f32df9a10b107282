"""Starting, draining and closing the endpoint."""

from __future__ import annotations

import asyncio
import socket

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from conch.errors import UnavailableError
from conch.wire.grpc.options import GrpcOptions
from conch.wire.grpc.server import GrpcServer
from tests.unit.wire.grpc.conftest import Endpoint, FakeServer, StartEndpoint, open_channel
from tests.unit.wire.grpc.messages import infer_request


def test_taken_port_is_named(endpoint: Endpoint) -> None:
    second = GrpcServer(FakeServer(), GrpcOptions(host="127.0.0.1", port=endpoint.port))
    with pytest.raises(UnavailableError, match=f"failed to start gRPC service at 127.0.0.1:{endpoint.port}"):
        endpoint.do(second.start())


def test_port_can_be_shared_when_asked_to(start: StartEndpoint) -> None:
    first = start(reuse_port=True)
    second = GrpcServer(FakeServer(), GrpcOptions(host="127.0.0.1", port=first.port, reuse_port=True))
    first.do(second.start())
    assert second.port == first.port
    first.do(second.close())


def test_port_is_unknown_before_start() -> None:
    with pytest.raises(RuntimeError, match="before start"):
        _ = GrpcServer(FakeServer(), GrpcOptions()).port


def test_drain_answers_open_calls_and_takes_no_new_connections(endpoint: Endpoint) -> None:
    with open_channel(endpoint) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        call = infer.future(infer_request("wait", request_id="w"))
        assert endpoint.server.arrived.acquire(timeout=60)
        endpoint.do(endpoint.grpc.drain(0.05))  # the time is up before the call ends
        endpoint.call(endpoint.server.release, "w")
        assert call.result(timeout=60).id == "w"
        endpoint.do(endpoint.grpc.drain(30))
        with pytest.raises(grpc.RpcError) as caught:
            infer(infer_request(), timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_drain_of_an_idle_endpoint_waits_for_nobody_and_frees_the_port(endpoint: Endpoint) -> None:
    endpoint.do(asyncio.wait_for(endpoint.grpc.drain(3600), 30))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=60)


def test_close_cancels_open_calls_and_may_be_repeated(endpoint: Endpoint) -> None:
    with open_channel(endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer.future(infer_request("wait"))
        assert endpoint.server.arrived.acquire(timeout=60)
        endpoint.do(endpoint.grpc.close())
        assert endpoint.server.cancelled.wait(60)
        assert call.code() is grpc.StatusCode.UNAVAILABLE
    endpoint.do(endpoint.grpc.close())
