"""SageMaker's and Vertex AI's ports, against what Triton 2.51 answers there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conch.errors import ConchError, InvalidArgumentError
from conch.wire.api_keys import ApiKeys
from conch.wire.http.messages import HttpApp, HttpRequest, Pending, Reply, RequestHead
from conch.wire.http.platforms import SageMaker, VertexAi, VertexRoutes, only_model
from conch.wire.http.server import AppServer, HttpOptions, make_api
from conch.wire.shared_memory import SharedMemoryRegions
from tests.unit.wire.http.fake_server import FakeServer

_SAGEMAKER = "application/vnd.sagemaker-triton.binary+json;json-header-size="
_VERTEX = "application/vnd.vertex-ai-triton.binary+json;json-header-size="
_BODY = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "BYTES", "shape": [1], "data": ["x"]}]}).encode()
_HEAD = json.dumps(
    {
        "inputs": [{"name": "INPUT0", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}],
        "parameters": {"binary_data_output": True},
    }
).encode()
_BINARY = _HEAD + b"\1\0\0\0y"


def sagemaker(model: str = "one_string", keys: ApiKeys | None = None) -> SageMaker:
    server = FakeServer()
    return SageMaker(
        server, make_api(server, HttpOptions(), SharedMemoryRegions(), keys), model, Path("/opt/ml/models")
    )


def vertex(default: Callable[[], str] = lambda: "one_string", keys: ApiKeys | None = None) -> VertexAi:
    server = FakeServer()
    api = make_api(server, HttpOptions(), SharedMemoryRegions(), keys)
    return VertexAi(server, api, VertexRoutes("/h", "/p"), default, metrics)


async def metrics() -> bytes:
    return b"nv_x 1\n"


def ask(app: HttpApp, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a reply."""
    named = {name.replace("_", "-").lower().encode(): value.encode() for name, value in headers.items()}
    request = HttpRequest(RequestHead(method.encode(), target.encode(), named), body)

    async def run() -> Reply:
        try:
            outcome: Any = app.dispatch(request)
            while isinstance(outcome, Pending):
                recover = outcome.recover
                try:
                    outcome = outcome.finish(await outcome.awaitable)
                except ConchError as error:
                    if recover is None:
                        raise
                    outcome = recover(error)
        except Exception as error:
            return app.failure(error)
        assert isinstance(outcome, Reply)
        return outcome

    reply = asyncio.run(run())
    start, *lines = (reply.head + str(reply.length).encode()).decode().split("\r\n")
    found = dict(line.split(": ", 1) for line in lines)
    return int(start.split()[1]), found, b"".join(bytes(part) for part in reply.parts)


def error(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    return answer[0], json.loads(answer[2])["error"]


def test_ping_tells_readiness() -> None:
    app = sagemaker()
    assert ask(app, "GET", "/ping")[::2] == (200, b"")
    app._server.is_server_ready = False  # type: ignore[attr-defined]
    assert ask(app, "GET", "/ping")[::2] == (400, b"")
    assert error(ask(app, "POST", "/ping")) == (405, "Method Not Allowed")


def test_invocations_infer_with_the_default_model() -> None:
    status, _, body = ask(sagemaker(), "POST", "/invocations?x=1", _BODY)
    assert (status, json.loads(body)["outputs"][0]["data"]) == (200, ["x"])
    assert error(ask(sagemaker(), "GET", "/invocations")) == (405, "Method Not Allowed")


def test_binary_invocations_say_the_length_of_the_head_in_the_content_type() -> None:
    status, headers, body = ask(sagemaker(), "POST", "/invocations", _BINARY, content_type=f"{_SAGEMAKER}{len(_HEAD)}")
    assert status == 200
    length = int(headers["Content-Type"].removeprefix(_SAGEMAKER))
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 5}
    assert body[length:] == b"\1\0\0\0y"
    assert "Inference-Header-Content-Length" not in headers


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ("-1", f"inference header size should be in range (0, {len(_BINARY)}), got: -1"),
        ("9999", f"inference header size should be in range (0, {len(_BINARY)}), got: 9999"),
        ("18446744073709551616", "inference header size should be in range"),
    ],
)
def test_wrong_lengths_of_the_head_are_refused(length: str, expected: str) -> None:
    for app, target, kind in ((sagemaker(), "/invocations", _SAGEMAKER), (vertex(), "/p", _VERTEX)):
        status, text = error(ask(app, "POST", target, _BINARY, content_type=kind + length))
        assert status == 400
        assert text.startswith(expected)


def test_length_that_is_no_number_makes_the_body_one_raw_tensor() -> None:
    status, _, body = ask(sagemaker(), "POST", "/invocations", b"raw", content_type=_SAGEMAKER + "abc")
    assert status == 200
    assert body.endswith(b"\3\0\0\0raw")


def test_header_that_sagemaker_does_not_pass_on_is_ignored() -> None:
    answer = ask(sagemaker(), "POST", "/invocations", _BODY, Inference_Header_Content_Length="3")
    assert answer[0] == 200


def test_default_model_that_nobody_named_is_unknown() -> None:
    name = "unspecified_SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"
    answer = ask(sagemaker(name), "POST", "/invocations", _BODY)
    assert error(answer) == (404, f"Request for unknown model: '{name}' is not found")


def test_a_default_model_with_odd_characters_stays_one_name() -> None:
    answer = ask(sagemaker("a/../b?c#d"), "POST", "/invocations", _BODY)
    assert error(answer) == (404, "Request for unknown model: 'a/../b?c#d' is not found")


@pytest.mark.parametrize("target", ["/", "/ping/", "/v2", "/v2/models/one_string/infer", "/metrics", "/nope"])
def test_sagemaker_port_answers_nothing_else(target: str) -> None:
    assert ask(sagemaker(), "GET", target)[::2] == (400, b"")


def test_vertex_health_and_predictions() -> None:
    app = vertex()
    assert ask(app, "GET", "/h?x=1")[::2] == (200, b"")
    assert error(ask(app, "POST", "/h")) == (405, "Method Not Allowed")
    assert error(ask(app, "GET", "/p")) == (405, "Method Not Allowed")
    status, _, body = ask(app, "POST", "/p", _BODY)
    assert (status, json.loads(body)["outputs"][0]["data"]) == (200, ["x"])
    status, headers, body = ask(app, "POST", "/p", _BINARY, content_type=f"{_VERTEX}{len(_HEAD)}; x=1")
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    assert body.endswith(b"\1\0\0\0y")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("v2", 200),
        ("v2/health/ready", 200),
        ("v2/models/simple", 200),
        ("v2/models/simple/config", 200),
        ("v2/repository/index", 200),
        ("v2/systemsharedmemory/status", 200),
        ("v2/models/nope/infer", 404),
        ("metrics", 200),
        ("/v2", 400),
        ("v2/logging", 400),
        ("v2/trace/setting", 400),
        ("v2/models/simple/generate", 400),
        ("h", 400),
        ("", 400),
    ],
)
def test_redirection_leads_to_other_calls(target: str, status: int) -> None:
    assert ask(vertex(), "POST", "/p", b"{}", X_Vertex_Ai_Triton_Redirect=target)[0] == status


def test_platforms_are_guarded_as_the_protocol_is(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("secret\n")
    keys = ApiKeys(tmp_path / "keys")
    for app, health, target in ((sagemaker(keys=keys), "/ping", "/invocations"), (vertex(keys=keys), "/h", "/p")):
        assert ask(app, "GET", health)[0] == 200
        assert ask(app, "POST", target, _BODY)[0] == 401
        assert ask(app, "POST", target, _BODY, X_API_Key="secret")[0] == 200
    assert ask(vertex(keys=keys), "POST", "/p", X_Vertex_Ai_Triton_Redirect="metrics")[0] == 401


def test_predictions_without_a_default_model_need_the_only_one() -> None:
    server = FakeServer()
    assert only_model(server) == "a"
    server.index = []
    with pytest.raises(InvalidArgumentError, match="contains only a single model if default model is not specified"):
        only_model(server)


def test_platform_port_listens() -> None:
    async def run() -> bytes:
        server = AppServer(sagemaker(), HttpOptions(host="127.0.0.1", port=0))
        await server.start()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            reply = await reader.read()
            writer.close()
            await writer.wait_closed()
        finally:
            await server.close()
        return reply

    assert asyncio.run(run()).startswith(b"HTTP/1.1 200 OK\r\n")
