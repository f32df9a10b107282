"""Paths, methods, keys, and everything but writing."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.config.restrictions import Restriction
from conch.errors import UnavailableError, UnsupportedError
from conch.inference import InferRequest, InferResponse
from conch.wire.api_keys import ApiKeys
from conch.wire.http.guard import Guard
from tests.unit.wire.openai.fakes import Answer, TextServer, app_of, ask


def embed(server: TextServer, **fields: Any) -> Answer:
    return ask(app_of(server), "POST", "/v1/embeddings", {"model": "embedder", "input": "abc", **fields})


def test_models_that_write_or_embed_are_listed() -> None:
    document = ask(app_of(TextServer()), "GET", "/v1/models").json
    assert document["object"] == "list"
    assert [each["id"] for each in document["data"]] == ["embedder", "plain", "writer"]
    one = {"id": "writer", "object": "model", "created": 5, "owned_by": "conch"}
    assert document["data"][-1] == one
    assert ask(app_of(TextServer()), "GET", "/v1/models/writer").json == one


def test_a_model_without_texts_is_not_found() -> None:
    for name in ("simple", "nobody"):
        refused = ask(app_of(TextServer()), "GET", f"/v1/models/{name}")
        assert (refused.status, refused.json["error"]["param"]) == (404, "model")


def test_texts_are_embedded_in_batches_that_the_model_takes() -> None:
    server = TextServer()
    document = embed(server, input=["a", "bb", "ccc"], encoding_format="float", user="me").json
    assert [request.inputs[0].shape for request in server.requests] == [(2, 1), (1, 1)]
    assert [(each["index"], each["embedding"]) for each in document["data"]] == [
        (0, [1.0, 0.5, -1.0]),
        (1, [2.0, 0.5, -1.0]),
        (2, [3.0, 0.5, -1.0]),
    ]
    assert "usage" not in document


def test_parts_of_a_request_that_were_started_end_when_a_later_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    server = TextServer()
    started: list[asyncio.Future[InferResponse]] = []

    def infer(request: InferRequest) -> Awaitable[InferResponse]:
        if len(started) == 2:
            raise UnavailableError("the queue is full")
        started.append(asyncio.get_running_loop().create_future())
        return started[-1]

    monkeypatch.setattr(server, "infer", infer)
    assert embed(server, input=["a"] * 6).status == 503
    assert [each.cancelled() for each in started] == [True, True]


def test_vectors_may_be_base64() -> None:
    (entry,) = embed(TextServer(), encoding_format="base64", dimensions=3).json["data"]
    assert np.frombuffer(base64.b64decode(entry["embedding"]), "<f4").tolist() == [3.0, 0.5, -1.0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 2}, "dimensions"),
        ({"model": "writer"}, "model"),
        ({"truncate": True}, "truncate"),
    ],
)
def test_what_embeddings_cannot_have_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    refused = embed(TextServer(), **fields)
    assert (refused.status, refused.json["error"]["param"]) == (400, param)


def test_models_are_loaded_and_unloaded() -> None:
    server = TextServer()
    assert ask(app_of(server), "POST", "/v1/models/writer/load").json["id"] == "writer"
    assert ask(app_of(server), "POST", "/v1/models/writer/unload").json == {"id": "writer", "unloaded": True}
    assert server.calls == [("load", "writer", None, {}), ("unload", "writer", False)]


def test_loading_where_clients_may_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    server = TextServer()

    async def refuse(*_: object) -> None:
        raise UnsupportedError("explicit model load / unload is not allowed")

    monkeypatch.setattr(server, "load_model", refuse)
    refused = ask(app_of(server), "POST", "/v1/models/writer/load")
    assert (refused.status, refused.json["error"]["message"]) == (400, "explicit model load / unload is not allowed")


def test_health_and_metrics() -> None:
    server = TextServer()
    assert ask(app_of(server), "GET", "/health/ready").status == 200
    assert ask(app_of(server), "GET", "/metrics").body == b"nv_x 1\n"
    server.is_server_ready = False
    assert ask(app_of(server), "GET", "/health/ready").status == 503


def test_other_paths_and_methods_are_refused() -> None:
    assert ask(app_of(TextServer()), "GET", "/v2").status == 404
    refused = ask(app_of(TextServer()), "GET", "/v1/embeddings")
    assert refused.status == 405
    assert "Allow: POST" in refused.head
    assert refused.json["error"]["type"] == "invalid_request_error"


def test_requests_need_a_key_where_there_are_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("sesame\n")
    app = app_of(TextServer(), Guard(ApiKeys(file), {}))
    for target in ("/v1/models", "/metrics", "/nowhere"):
        refused = ask(app, "GET", target)
        assert (refused.status, refused.json["error"]["type"]) == (401, "authentication_error")
        assert ask(app, "GET", target, authorization="Bearer wrong").status == 401
    assert ask(app, "GET", "/v1/models", authorization="Bearer sesame").status == 200
    assert ask(app, "GET", "/health/ready").status == 200


def test_restricted_calls_need_their_header() -> None:
    app = app_of(TextServer(), Guard(None, {"model-repository": Restriction("Admin", "yes")}))
    refused = ask(app, "POST", "/v1/models/writer/unload")
    assert (refused.status, refused.json["error"]["type"]) == (403, "permission_error")
    assert ask(app, "POST", "/v1/models/writer/unload", admin="yes").status == 200
    assert ask(app, "GET", "/v1/models").status == 200


def test_what_nobody_foresaw_is_told_without_details() -> None:
    server = TextServer()
    server.failure = ZeroDivisionError("secret")
    refused = embed(server)
    assert (refused.status, refused.json["error"]["type"]) == (500, "server_error")
    assert "secret" not in refused.json["error"]["message"]
