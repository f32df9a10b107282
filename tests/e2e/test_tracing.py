"""Tracing of a whole server: files and OTLP, through ensembles, over both protocols."""

from __future__ import annotations

import gzip
import json
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

import conch
from conch.config.trace_options import TraceOptions
from conch.testing import ModelRepositoryBuilder
from conch.trace import TENSORS, TIMESTAMPS

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CHAIN = """
platform: "ensemble"
max_batch_size: 8
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
ensemble_scheduling { step [
  { model_name: "identity" model_version: -1 input_map { key: "INPUT0" value: "IN" }
    output_map { key: "OUTPUT0" value: "BETWEEN" } },
  { model_name: "identity" model_version: -1 input_map { key: "INPUT0" value: "BETWEEN" }
    output_map { key: "OUTPUT0" value: "OUT" } }
] }
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = ModelRepositoryBuilder(tmp_path / "models").add_identity().root
    (root / "chain" / "1").mkdir(parents=True)
    (root / "chain" / "config.pbtxt").write_text(CHAIN)
    return root


def serving(repository: Path, options: TraceOptions) -> conch.Serve:
    return conch.Serve(
        repository,
        load_model="*",
        http_address="127.0.0.1",
        grpc_address="127.0.0.1",
        http_port=0,
        grpc_port=0,
        allow_metrics=False,
        trace_config=options,
    )


def ask(server: conch.Serve, model: str, name: str, **headers: str) -> None:
    body = {"id": "mine", "inputs": [{"name": name, "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    url = f"http://127.0.0.1:{server.http_port}/v2/models/{model}/infer"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=20) as answer:
        assert answer.status == 200


def moments(entries: list[dict[str, Any]], trace_id: int) -> list[str]:
    own = [entry for entry in entries if entry["id"] == trace_id and "timestamps" in entry]
    told = [(moment["ns"], moment["name"]) for entry in own for moment in entry["timestamps"]]
    assert told == sorted(told, key=lambda moment: moment[0])
    return [name for _, name in told]


COMPUTE = ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]


def test_requests_over_both_protocols_are_traced_to_a_file(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "traces.json"
    options = TraceOptions(level=TIMESTAMPS | TENSORS, rate=1, file=str(path))
    with serving(repository, options) as server:
        ask(server, "chain", "IN")
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            ones = np.ones((1, 2), np.float32)
            client.infer("identity", [tritonclient.grpc.InferInput("INPUT0", [1, 2], "FP32").set_data_from_numpy(ones)])
    entries = json.loads(path.read_text())
    models = {entry["id"]: (entry["model_name"], entry.get("parent_id")) for entry in entries if "model_name" in entry}
    assert models == {1: ("chain", None), 2: ("identity", 1), 3: ("identity", 1), 4: ("identity", None)}
    assert moments(entries, 1) == [
        "HTTP_RECV_START",
        "HTTP_RECV_END",
        "REQUEST_START",
        "QUEUE_START",
        "INFER_RESPONSE_COMPLETE",
        "REQUEST_END",
        "HTTP_SEND_START",
        "HTTP_SEND_END",
    ]
    assert moments(entries, 2) == ["REQUEST_START", "QUEUE_START", *COMPUTE, "REQUEST_END"]
    assert moments(entries, 4) == [
        "GRPC_WAITREAD_START",
        "GRPC_WAITREAD_END",
        "REQUEST_START",
        "QUEUE_START",
        *COMPUTE,
        "INFER_RESPONSE_COMPLETE",
        "REQUEST_END",
        "GRPC_SEND_START",
        "GRPC_SEND_END",
    ]
    tensors = [(entry["id"], entry["tensor"]["name"]) for entry in entries if "activity" in entry]
    assert sorted(tensors)[:2] == [(1, "IN"), (1, "OUT")]


def test_failed_requests_and_requests_of_the_program_are_traced(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "traces.json"
    options = TraceOptions(level=TIMESTAMPS, rate=1, file=str(path))
    with conch.Server(repository, trace_config=options) as server:
        next(server.model("identity").infer(inputs={"INPUT0": np.ones((1, 2), np.float32)}))
        list(server.model("identity").infer(inputs={}, raise_on_error=False))
    entries = json.loads(path.read_text())
    assert {entry["id"] for entry in entries} == {1}
    assert moments(entries, 1)[-2:] == ["INFER_RESPONSE_COMPLETE", "REQUEST_END"]


class _Collector(BaseHTTPRequestHandler):
    received: Queue[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.put(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing to the console."""


@pytest.fixture
def collector() -> Iterator[HTTPServer]:
    _Collector.received = Queue()
    server = HTTPServer(("127.0.0.1", 0), _Collector)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_of_an_ensemble_join_the_clients_trace_over_otlp(repository: Path, collector: HTTPServer) -> None:
    messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    url = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
    options = TraceOptions(
        mode="opentelemetry", level=TIMESTAMPS, rate=1000, url=url, resource={"service.name": "probe"}
    )
    with serving(repository, options) as server:
        ask(server, "chain", "IN", traceparent=TRACEPARENT)
        ask(server, "chain", "IN")  # one in a thousand, and nobody asks for it
    (resource,) = messages.ExportTraceServiceRequest.FromString(_Collector.received.get(timeout=20)).resource_spans
    assert any(
        each.key == "service.name" and each.value.string_value == "probe" for each in resource.resource.attributes
    )
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    assert sorted(span.name for span in spans) == [
        "InferRequest",
        "chain",
        "compute",
        "compute",
        "identity",
        "identity",
    ]
    assert {span.trace_id.hex() for span in spans} == {TRACEPARENT.split("-")[1]}
    (outer,) = [span for span in spans if span.name == "InferRequest"]
    assert outer.parent_span_id.hex() == TRACEPARENT.split("-")[2]
