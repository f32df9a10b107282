"""Every call but inference, against what Triton 2.51 answers."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.unit.wire.http.harness import Served

_NOT_BOOL = "attempt to access JSON non-boolean as boolean"
_NOT_STRING = "attempt to access JSON non-string as string"
_OPEN_OBJECT = "failed to parse the request JSON buffer: Missing a name for object member. at 1"


def test_health_has_no_body(own_served: Served) -> None:
    for path in (
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/simple/ready",
        "/v2/models/simple/versions/1/ready",
    ):
        answer = own_served.get(path)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "text/plain")
    own_served.call(lambda: setattr(own_served.fake, "is_server_ready", False))
    answer = own_served.get("/v2/health/ready")
    assert (answer.status, answer.body) == (400, b"")


@pytest.mark.parametrize("path", ["/v2/models/nope/ready", "/v2/models/simple/versions/7/ready"])
def test_models_that_are_not_there_are_not_ready(served: Served, path: str) -> None:
    answer = served.get(path)
    assert (answer.status, answer.error) == (400, "Model version not ready")


def test_server_metadata(served: Served) -> None:
    assert served.get("/v2").json == {
        "name": "triton",
        "version": "2.51.0",
        "extensions": ["classification", "statistics"],
    }


def test_model_metadata(served: Served) -> None:
    expected = {
        "name": "batched",
        "versions": ["1"],
        "platform": "python",
        "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, -1]}],
        "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [-1, -1]}],
    }
    for path in (
        "/v2/models/batched",
        "/v2/models/batched/versions/1",
        "/v2/models/batched?x=1",
        "/v2/models/b%61tched",
    ):
        assert served.get(path).json == expected


def test_model_config(served: Served) -> None:
    config = served.get("/v2/models/batched/config").json
    assert config["max_batch_size"] == 8
    assert config["input"][0]["dims"] == [-1]


@pytest.mark.parametrize("path", ["/v2/models/nope", "/v2/models/nope/config"])
def test_unknown_models_are_not_found(served: Served, path: str) -> None:
    answer = served.get(path)
    assert (answer.status, answer.error) == (404, "Request for unknown model: 'nope' is not found")


def test_statistics_have_tritons_shape(served: Served) -> None:
    zero = {"count": 0, "ns": 0}
    (entry,) = served.get("/v2/models/simple/stats").json["model_stats"]
    assert entry == {
        "name": "simple",
        "version": "1",
        "last_inference": 5,
        "inference_count": 2,
        "execution_count": 1,
        "inference_stats": {
            "success": zero,
            "fail": zero,
            "queue": zero,
            "compute_input": zero,
            "compute_infer": zero,
            "compute_output": zero,
            "cache_hit": zero,
            "cache_miss": zero,
        },
        "response_stats": {
            "0": {
                "compute_infer": {"count": 2, "ns": 5},
                "compute_output": {"count": 2, "ns": 6},
                "success": {"count": 1, "ns": 7},
                "fail": zero,
                "empty_response": zero,
                "cancel": zero,
            }
        },
        "batch_stats": [
            {
                "batch_size": 2,
                "compute_input": {"count": 1, "ns": 10},
                "compute_infer": {"count": 1, "ns": 20},
                "compute_output": {"count": 1, "ns": 30},
            }
        ],
        "memory_usage": [],
    }
    assert list(entry)[-3:] == ["response_stats", "batch_stats", "memory_usage"]
    assert len(served.get("/v2/models/stats").json["model_stats"]) == len(served.fake.models)
    answer = served.get("/v2/models/nope/stats")
    assert (answer.status, answer.error) == (400, "requested model 'nope' is not available")


def test_repository_index_leaves_out_what_it_does_not_know(served: Served) -> None:
    expected = [
        {"name": "a", "version": "1", "state": "READY"},
        {"name": "b", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "never_loaded"},
    ]
    assert served.post("/v2/repository/index").json == expected
    assert served.post("/v2/repository/any/index", {}).json == expected
    assert served.post("/v2/repository/index", b"[]").json == expected
    assert served.post("/v2/repository/index", {"ready": True}).json == expected[:1]


def test_load_and_unload_answer_without_a_body(own_served: Served) -> None:
    file = base64.b64encode(b"\0model").decode()
    body = {"parameters": {"config": '{"backend":"x"}', "file:1/model.bin": file}}
    for path, sent in (
        ("simple/load", b""),
        ("simple/load", body),
        ("simple/unload", b""),
        ("simple/unload", {"parameters": {"unload_dependents": True}}),
        ("simple/unload", {"parameters": {"unload_dependents": 5}}),
    ):
        answer = own_served.post(f"/v2/repository/models/{path}", sent)
        assert (answer.status, answer.body) == (200, b"")
    assert own_served.fake.calls == [
        ("load", "simple", None, {}),
        ("load", "simple", '{"backend":"x"}', {"1/model.bin": b"\0model"}),
        ("unload", "simple", False),
        ("unload", "simple", True),
        ("unload", "simple", False),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("models/nope/load", b"", 400, "failed to load 'nope', failed to poll from model repository"),
        ("models/simple/load", b"{", 500, _OPEN_OBJECT),
        ("models/simple/load", {"parameters": 5}, 500, "attempt to get members for non-object"),
        ("models/simple/load", {"parameters": {"config": 5}}, 500, _NOT_STRING),
        ("models/simple/load", {"parameters": {"x": "y"}}, 500, "unexpected error on creating Triton parameter"),
        (
            "models/simple/load",
            {"parameters": {"file:x": "AAA"}},
            400,
            "parameter 'file:x' must be base64: Incorrect padding",
        ),
        ("r/models/simple/load", b"", 501, "'repository_name' specification is not supported"),
        ("r/models/simple/unload", b"", 501, "'repository_name' specification is not supported"),
        ("index", b"{", 500, _OPEN_OBJECT),
        ("index", {"ready": 5}, 500, _NOT_BOOL),
    ],
)
def test_wrong_repository_requests_are_refused(served: Served, path: str, body: Any, status: int, text: str) -> None:
    answer = served.post(f"/v2/repository/{path}", body)
    assert (answer.status, answer.error) == (status, text)


_SETTINGS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


def test_log_settings_are_read_and_changed(own_served: Served) -> None:
    assert own_served.get("/v2/logging").json == _SETTINGS
    changes = {"log_info": False, "log_verbose_level": 1, "log_format": "ISO8601", "log_error": None, "unknown": 1}
    assert own_served.post("/v2/logging", changes).json == _SETTINGS
    assert own_served.fake.calls == [("log", {"log_info": False, "log_verbose_level": 1, "log_format": "ISO8601"})]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 500, "failed to parse the request JSON buffer: The document is empty. at 0"),
        ({"log_info": 5}, 500, _NOT_BOOL),
        *(
            (
                {"log_verbose_level": value},
                500,
                "attempt to access JSON non-unsigned-integer as unsigned-integer",
            )
            for value in ("1", -1, True)
        ),
        ({"log_format": 1}, 500, _NOT_STRING),
        ({"log_format": "x"}, 503, "invalid argument for --log_format, got: x"),
        ({"log_file": "x"}, 501, "log file location can not be updated through network protocol"),
    ],
)
def test_wrong_log_settings_are_refused(served: Served, body: Any, status: int, text: str) -> None:
    answer = served.post("/v2/logging", body)
    assert (answer.status, answer.error) == (status, text)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nope",
        "/v1/chat/completions",
        "/v2/",
        "/v2/health",
        "/v2/models",
        "/v2/models/",
        "/v2/models//ready",
        "/v2/models/simple/",
        "/v2/models/simple/nope",
        "/v2/models/simple/versions/x",
        "/v2/models/simple/versions/1/",
        "/v2/models/simple/versions/1/trace/setting",
        "/v2/repository/models/simple",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_paths_are_not_found(served: Served, path: str, method: str) -> None:
    answer = served.get(path, method)
    assert (answer.status, answer.error) == (404, "Not Found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2"),
        ("PUT", "/v2"),
        ("OPTIONS", "/v2"),
        ("POST", "/v2/health/live"),
        ("POST", "/v2/models/simple"),
        ("POST", "/v2/models/simple/ready"),
        ("POST", "/v2/models/simple/config"),
        ("GET", "/v2/models/simple/infer"),
        ("PUT", "/v2/models/nope/infer"),
        ("GET", "/v2/models/simple/generate"),
        ("GET", "/v2/repository/index"),
        ("GET", "/v2/repository/models/simple/load"),
        ("DELETE", "/v2/logging"),
    ],
)
def test_wrong_methods_are_not_allowed(served: Served, method: str, path: str) -> None:
    answer = served.get(path, method)
    assert (answer.status, answer.error) == (405, "Method Not Allowed")


def test_trace_settings_are_read_and_changed(served: Served) -> None:
    changed = served.post("/v2/models/simple/trace/setting", {"trace_rate": "5"})
    assert (changed.status, changed.json["trace_rate"]) == (200, "5")
    assert served.get("/v2/trace/setting").json == {
        "trace_level": ["OFF"],
        "trace_rate": "1000",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_file": "",
        "trace_mode": "triton",
    }
    refused = served.post("/v2/trace/setting", {"trace_level": ["TIMESTAMPS"]})
    assert (refused.status, refused.error) == (
        400,
        "Attempting to set invalid trace setting :trace file name is not given",
    )
