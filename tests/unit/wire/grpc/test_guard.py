"""API keys and restricted protocols over gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from conch.config.restrictions import CATEGORIES, Restriction
from conch.wire.api_keys import ApiKeys
from conch.wire.grpc.guard import CATEGORY_BY_PATH
from conch.wire.shared_memory import SharedMemoryRegions
from tests.unit.wire.grpc.conftest import Endpoint, StartEndpoint, open_channel
from tests.unit.wire.grpc.messages import infer_request

Metadata = tuple[tuple[str, str], ...]


def outcome(endpoint: Endpoint, method: str, request: Any, metadata: Metadata = ()) -> tuple[str, str]:
    """Code and details a unary call ends with."""
    with open_channel(endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            getattr(stub, method)(request, metadata=metadata, timeout=60)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


@pytest.fixture
def keyed(start: StartEndpoint, tmp_path: Path) -> Endpoint:
    (tmp_path / "keys").write_text("secret\n")
    return start(keys=ApiKeys(tmp_path / "keys"))


def test_every_method_has_a_category(endpoint: Endpoint) -> None:
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    methods = {f"/inference.GRPCInferenceService/{method.name}" for method in service.methods}
    others = {path for path in CATEGORY_BY_PATH if not path.startswith("/inference.")}
    assert methods | others == CATEGORY_BY_PATH.keys()
    assert set(CATEGORY_BY_PATH.values()) == set(CATEGORIES)


@pytest.mark.parametrize("metadata", [(("authorization", "Bearer secret"),), (("x-api-key", "secret"),)])
def test_a_key_opens_everything(keyed: Endpoint, metadata: Metadata) -> None:
    assert outcome(keyed, "ServerMetadata", pb.ServerMetadataRequest(), metadata) == ("OK", "")
    assert outcome(keyed, "ModelInfer", infer_request(), metadata) == ("OK", "")


def test_without_a_key_nothing_but_health_is_answered(keyed: Endpoint) -> None:
    code, details = outcome(keyed, "ModelInfer", infer_request())
    assert (code, details[:20]) == ("UNAUTHENTICATED", "an API key is needed")
    assert keyed.server.requests == []
    for method, request in (
        ("ServerLive", pb.ServerLiveRequest()),
        ("ServerReady", pb.ServerReadyRequest()),
        ("ModelReady", pb.ModelReadyRequest(name="echo")),
    ):
        assert outcome(keyed, method, request) == ("OK", "")
    with open_channel(keyed) as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=60) == b"\x08\x01"
        reflect = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as caught:
            list(reflect(iter([b""]), timeout=60))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_wrong_key_is_refused_and_also_one_in_another_scheme(keyed: Endpoint) -> None:
    wrong = outcome(keyed, "ServerMetadata", pb.ServerMetadataRequest(), (("x-api-key", "secre"),))
    assert wrong == ("UNAUTHENTICATED", "the API key is not one of this server's")
    other = outcome(keyed, "ServerMetadata", pb.ServerMetadataRequest(), (("authorization", "Basic secret"),))
    assert other[0] == "UNAUTHENTICATED"


def test_restricted_category_needs_its_metadata(start: StartEndpoint) -> None:
    endpoint = start(restrictions={"health": Restriction("Key", "v"), "inference": Restriction("k", "v")})
    name = "triton-grpc-protocol-key"
    refusal = ("UNAVAILABLE", "This protocol is restricted, expecting header 'triton-grpc-protocol-Key'")
    assert outcome(endpoint, "ServerLive", pb.ServerLiveRequest()) == refusal
    assert outcome(endpoint, "ServerLive", pb.ServerLiveRequest(), ((name, "w"),)) == refusal
    assert outcome(endpoint, "ServerLive", pb.ServerLiveRequest(), (("key", "v"),)) == refusal
    assert outcome(endpoint, "ServerLive", pb.ServerLiveRequest(), ((name, "v"),)) == ("OK", "")
    assert outcome(endpoint, "ServerMetadata", pb.ServerMetadataRequest()) == ("OK", "")
    with open_channel(endpoint) as channel, pytest.raises(grpc.RpcError) as caught:
        list(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([infer_request()]), timeout=60))
    assert caught.value.details() == "This protocol is restricted, expecting header 'triton-grpc-protocol-k'"
    assert endpoint.server.requests == []


def test_shared_memory_is_refused_where_it_is_not_allowed(start: StartEndpoint) -> None:
    endpoint = start(regions=SharedMemoryRegions(allowed=False))
    request = pb.SystemSharedMemoryRegisterRequest(name="r", key="/x", byte_size=4)
    code, details = outcome(endpoint, "SystemSharedMemoryRegister", request)
    assert code == "UNIMPLEMENTED"
    assert "--allow-client-shm=false" in details
