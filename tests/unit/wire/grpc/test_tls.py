"""TLS and mutual TLS, with certificates made for the occasion."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from conch.errors import InvalidArgumentError
from conch.wire.tls import TlsOptions, tls_context
from tests.unit.wire.certificates import Pair, needs_openssl
from tests.unit.wire.grpc.conftest import StartEndpoint
from tests.unit.wire.grpc.messages import infer_request, random_bytes

pytestmark = needs_openssl


def credentials(root: Pair, own: Pair | None = None) -> grpc.ChannelCredentials:
    key = own.key.read_bytes() if own else None
    chain = own.certificate.read_bytes() if own else None
    return grpc.ssl_channel_credentials(root.certificate.read_bytes(), key, chain)


def echo(address: str, channel_credentials: grpc.ChannelCredentials, size: int = 4) -> bool:
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, channel_credentials, options) as channel:
        raw = random_bytes(size)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(pb.ServerLiveRequest(), timeout=60).live
        return stub.ModelInfer(infer_request(raw=raw), timeout=60).raw_output_contents[0] == raw


def test_tls_serves_calls_of_any_size(start: StartEndpoint, pairs: dict[str, Pair]) -> None:
    endpoint = start(tls=TlsOptions(*pairs["server"]))
    assert echo(endpoint.address, credentials(pairs["root"]))
    assert echo(endpoint.address, credentials(pairs["root"]), size=6 << 20)


def test_mutual_tls_takes_only_clients_with_a_certificate(start: StartEndpoint, pairs: dict[str, Pair]) -> None:
    endpoint = start(tls=TlsOptions(*pairs["server"], root_certificate=pairs["root"].certificate, mutual=True))
    assert echo(endpoint.address, credentials(pairs["root"], pairs["client"]))
    for own in (None, pairs["stranger"]):
        with pytest.raises(grpc.RpcError) as caught:
            echo(endpoint.address, credentials(pairs["root"], own))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_plain_text_client_is_turned_away(start: StartEndpoint, pairs: dict[str, Pair]) -> None:
    endpoint = start(tls=TlsOptions(*pairs["server"]))
    with grpc.insecure_channel(endpoint.address) as channel, pytest.raises(grpc.RpcError):
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=60)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no\.crt.*expected PEM files"):
        tls_context(TlsOptions(tmp_path / "no.crt", tmp_path / "no.key"), "h2")


def test_mutual_tls_needs_a_root_certificate(pairs: dict[str, Pair]) -> None:
    with pytest.raises(InvalidArgumentError, match="needs a root certificate"):
        tls_context(TlsOptions(*pairs["server"], mutual=True), "h2")
