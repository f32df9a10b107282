"""The load that clients ask for in the head of a reply. Triton 2.51 has no such header; newer ones do."""

from __future__ import annotations

import json
import logging

import pytest

from conch.core.metrics import CustomMetrics
from conch.errors import BackendError
from conch.wire.http.load_report import CACHE_FAMILY, CacheLoad, cache_load, report
from tests.unit.wire.http.harness import Served, read_to_end
from tests.unit.wire.http.test_generate import event, number, raw

_FORM = "endpoint-load-metrics-format"
_JSON = 'JSON {"named_metrics":{"kv_cache_utilization":0.1875,"max_token_capacity":1024}}'
_TEXT = "TEXT named_metrics.kv_cache_utilization=0.187500, named_metrics.max_token_capacity=1024"


def reported(**sizes: float) -> CustomMetrics:
    metrics = CustomMetrics()
    metrics.declare("another", "", "gauge")
    metrics.set("another", {"kv_cache_block_type": "used"}, 7)
    metrics.declare(CACHE_FAMILY, "", "gauge")
    for kind, value in sizes.items():
        metrics.set(CACHE_FAMILY, {"kv_cache_block_type": kind, "model": "m", "version": "1"}, value)
    return metrics


def with_load(served: Served) -> Served:
    served.fake.custom_metrics.declare(CACHE_FAMILY, "", "gauge")
    for kind, value in (("used", 3), ("max", 16), ("tokens_per", 64)):
        served.fake.custom_metrics.set(CACHE_FAMILY, {"kv_cache_block_type": kind}, value)
    return served


def asking(request: bytes) -> bytes:
    return request.replace(b"Host: x", b"Host: x\r\nConnection: close\r\nEndpoint-Load-Metrics-Format: json")


def test_the_load_is_that_of_the_cache_in_blocks_and_tokens() -> None:
    assert cache_load(reported(used=3, max=16, tokens_per=64)) == CacheLoad(0.1875, 1024)
    assert cache_load(reported(used=0, max=0, tokens_per=64)) == CacheLoad(0.0, 0)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"used": 3, "max": 16},
        {"used": -1, "max": 16, "tokens_per": 64},
        {"used": 3, "max": float("inf"), "tokens_per": 64},
        {"used": float("nan"), "max": 16, "tokens_per": 64},
    ],
)
def test_without_all_three_numbers_there_is_no_load(sizes: dict[str, float]) -> None:
    assert cache_load(reported(**sizes)) is None


def test_both_forms_are_those_of_orca() -> None:
    load = CacheLoad(0.1875, 1024)
    assert report(load, "text") == _TEXT
    assert report(load, "json") == _JSON
    assert report(load, "TEXT") is None


@pytest.mark.parametrize(("form", "expected"), [("text", _TEXT), ("json", _JSON)])
def test_inference_and_generate_tell_it_to_who_asks(own_served: Served, form: str, expected: str) -> None:
    with_load(own_served)
    body = {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]}
    binary = {**body, "parameters": {"binary_data_output": True}}
    for path, document in (
        ("infer", body),
        ("infer", binary),
        ("generate", {"INPUT0": 1}),
        ("generate_stream", {"INPUT0": 1}),
    ):
        asked = own_served.post(f"/v2/models/id_FP32/{path}", document, {_FORM: form})
        assert (asked.status, asked.headers["endpoint-load-metrics"]) == (200, expected)
        other = own_served.post(f"/v2/models/id_FP32/{path}", document)
        assert "endpoint-load-metrics" not in other.headers
        assert asked.body == other.body


def test_compressed_replies_tell_it_once(own_served: Served) -> None:
    body = {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]}
    answer = with_load(own_served).post(
        "/v2/models/id_FP32/infer", body, {_FORM: "json", "Accept-Encoding": "gzip, deflate"}
    )
    assert (answer.headers["content-encoding"], answer.headers["endpoint-load-metrics"]) == ("gzip", _JSON)


def test_errors_of_a_model_tell_it_too(own_served: Served) -> None:
    with_load(own_served)
    own_served.call(lambda: setattr(own_served.fake, "hold", True))
    with own_served.socket() as connection:
        connection.sendall(asking(raw("id_FP32", {"INPUT0": 1}, "")))
        own_served.wait_until(lambda: own_served.fake.held == 1)
        own_served.call(lambda: own_served.fake.end(BackendError("went wrong")))
        head = read_to_end(connection).partition(b"\r\n\r\n")[0].decode()
    assert head.startswith("HTTP/1.1 400 ")
    assert f"\r\nendpoint-load-metrics: {_JSON}\r\n" in head


def test_a_stream_tells_the_load_at_its_first_response(own_served: Served) -> None:
    with_load(own_served)
    own_served.call(lambda: setattr(own_served.fake, "hold", True))
    with own_served.socket() as connection:
        connection.sendall(asking(raw("decoupled", {"INPUT0": 1})))
        own_served.wait_until(lambda: own_served.fake.held == 1)
        own_served.call(lambda: own_served.fake.custom_metrics.set(CACHE_FAMILY, {"kv_cache_block_type": "used"}, 8))
        own_served.call(lambda: own_served.fake.end(number(1.5)))
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    line = next(line for line in head.decode().split("\r\n") if line.startswith("endpoint-load-metrics: "))
    assert json.loads(line.partition(" JSON ")[2])["named_metrics"]["kv_cache_utilization"] == 0.5
    assert event(1.5) in body


@pytest.mark.parametrize(("form", "told"), [("xml", "'xml' is neither text nor json"), ("json", "no model reports")])
def test_what_cannot_be_told_is_left_out_and_logged(
    own_served: Served, caplog: pytest.LogCaptureFixture, form: str, told: str
) -> None:
    if form != "json":
        with_load(own_served)
    with caplog.at_level(logging.ERROR):
        answer = own_served.post("/v2/models/id_FP32/generate", {"INPUT0": 1}, {_FORM: form})
    assert answer.status == 200
    assert "endpoint-load-metrics" not in answer.headers
    assert told in caplog.text
