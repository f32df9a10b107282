"""Mutual TLS of a real server on both ports: who gets in, and that those who do not leave it as it was."""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from geventhttpclient.response import HTTPConnectionClosed

from tests.serving import ServerProcess, answers, ended, launch, wait_until
from tests.unit.wire.certificates import Pair, make_pair, needs_openssl

pytestmark = needs_openssl

MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", each.inputs()[0].as_numpy())]) for each in requests]
"""

CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_INT32 dims: -1 }
output { name: "OUT" data_type: TYPE_INT32 dims: -1 }
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """An authority with a server and a client, and another authority with a client of its own."""
    directory = tmp_path_factory.mktemp("certificates")
    root, other = make_pair(directory, "root", None), make_pair(directory, "other_root", None)
    return {
        "root": root,
        "other_root": other,
        "server": make_pair(directory, "server", root),
        "client": make_pair(directory, "client", root),
        "stranger": make_pair(directory, "stranger", other),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, Pair]) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("tls")
    (directory / "models" / "echo" / "1").mkdir(parents=True)
    (directory / "models" / "echo" / "1" / "model.py").write_text(MODEL)
    (directory / "models" / "echo" / "config.pbtxt").write_text(CONFIG)
    flags = [
        f"--{protocol}-{flag}"
        for protocol in ("http", "grpc")
        for flag in (
            "use-ssl-mutual=true",
            f"server-cert={pairs['server'].certificate}",
            f"server-key={pairs['server'].key}",
            f"root-cert={pairs['root'].certificate}",
        )
    ]
    running = launch(directory / "models", directory / "server.log", *flags)
    try:
        wait_until(lambda: ended(running) or is_serving(running), 100)
        assert running.process.poll() is None, running.log_text()
        yield running
    finally:
        assert running.stop() == 0


def is_serving(running: ServerProcess) -> bool:
    """The metrics port has no TLS, and lists the model once it is loaded."""
    page = f"http://127.0.0.1:{running.metrics}/metrics"
    return answers(page) and b'model="echo"' in urllib.request.urlopen(page, timeout=60).read()


def over_http(running: ServerProcess, root: Pair, own: Pair | None) -> list[int]:
    context = ssl.create_default_context(cafile=str(root.certificate))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    url = f"localhost:{running.http}"
    with triton_http.InferenceServerClient(url, ssl=True, ssl_context_factory=lambda: context) as client:
        tensor = triton_http.InferInput("IN", [3], "INT32").set_data_from_numpy(np.array([1, 2, 3], np.int32))
        found: list[int] = client.infer("echo", [tensor]).as_numpy("OUT").tolist()
        return found


def over_grpc(running: ServerProcess, root: Pair, own: Pair | None) -> list[int]:
    credentials = grpc.ssl_channel_credentials(
        root.certificate.read_bytes(),
        own.key.read_bytes() if own else None,
        own.certificate.read_bytes() if own else None,
    )
    arguments = [("grpc.use_local_subchannel_pool", 1)]
    url = f"localhost:{running.grpc}"
    with triton_grpc.InferenceServerClient(url, creds=credentials, channel_args=arguments) as client:
        tensor = triton_grpc.InferInput("IN", [3], "INT32").set_data_from_numpy(np.array([1, 2, 3], np.int32))
        found: list[int] = client.infer("echo", [tensor], client_timeout=60).as_numpy("OUT").tolist()
        return found


def test_a_client_with_a_certificate_of_the_authority_is_served(server: ServerProcess, pairs: dict[str, Pair]) -> None:
    assert over_http(server, pairs["root"], pairs["client"]) == [1, 2, 3]
    assert over_grpc(server, pairs["root"], pairs["client"]) == [1, 2, 3]


@pytest.mark.parametrize("own", [None, "stranger"])
def test_a_client_without_one_is_turned_away_and_others_are_served(
    server: ServerProcess, pairs: dict[str, Pair], own: str | None
) -> None:
    pair = pairs[own] if own else None
    with pytest.raises((ssl.SSLError, ConnectionError, HTTPConnectionClosed)):
        over_http(server, pairs["root"], pair)
    with pytest.raises(triton_grpc.InferenceServerException) as caught:
        over_grpc(server, pairs["root"], pair)
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert over_http(server, pairs["root"], pairs["client"]) == [1, 2, 3]
    assert over_grpc(server, pairs["root"], pairs["client"]) == [1, 2, 3]


def test_a_client_that_trusts_another_authority_turns_away(server: ServerProcess, pairs: dict[str, Pair]) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        over_http(server, pairs["other_root"], pairs["client"])
    with pytest.raises(triton_grpc.InferenceServerException) as caught:
        over_grpc(server, pairs["other_root"], pairs["client"])
    assert caught.value.status() == "StatusCode.UNAVAILABLE"


def test_plain_text_gets_no_answer(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=60)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.request("GET", "/v2/health/live")
        connection.getresponse()
    connection.close()
