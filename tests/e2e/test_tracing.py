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


#: Answers the context of its trace, after the calls that its parameters name: model, and whether with the trace.
CALLER = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        inputs = request.inputs()
        for model, traced in json.loads(json.loads(request.parameters()).get("calls", "[]")):
            trace = request.trace() if traced else None
            name = "INPUT0" if model == "identity" else inputs[0].name()
            tensors = [pb_utils.Tensor(name, inputs[0].as_numpy())]
            call = pb_utils.InferenceRequest(
                request_id="inner", model_name=model, inputs=tensors, requested_output_names=[], trace=trace
            )
            for response in call.exec(decoupled=True):
                assert not response.has_error() or model == "nope", response.error().message()
        context = request.trace().get_context() or "none"
        return pb_utils.InferenceResponse([pb_utils.Tensor("CONTEXT", np.array([[context]], dtype=np.object_))])
"""
CALLER_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: -1 }
output { name: "CONTEXT" data_type: TYPE_STRING dims: 1 }
"""
AROUND = """
platform: "ensemble"
max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: -1 }
output { name: "CONTEXT" data_type: TYPE_STRING dims: 1 }
ensemble_scheduling { step {
  model_name: "caller" model_version: -1 input_map { key: "IN" value: "IN" }
  output_map { key: "CONTEXT" value: "CONTEXT" }
} }
"""
REPEAT = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for flags in (0, 1):
                tensors = [pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())]
                sender.send(pb_utils.InferenceResponse(tensors), flags)
"""
REPEAT_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: -1 }
output { name: "OUT" data_type: TYPE_FP32 dims: -1 }
model_transaction_policy { decoupled: true }
"""


def add_model(root: Path, name: str, config: str, code: str = "") -> None:
    (root / name / "1").mkdir(parents=True)
    (root / name / "config.pbtxt").write_text(config)
    if code:
        (root / name / "1" / "model.py").write_text(code)


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


def ask(server: conch.Serve, model: str, name: str, calls: str = "", **headers: str) -> Any:
    body: dict[str, Any] = {
        "id": "mine",
        "inputs": [{"name": name, "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}],
        "parameters": {"calls": calls} if calls else {},
    }
    url = f"http://127.0.0.1:{server.http_port}/v2/models/{model}/infer"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60) as answer:
        assert answer.status == 200
        return json.loads(answer.read())["outputs"][0]["data"][0]


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


@pytest.fixture
def calling(repository: Path) -> Path:
    add_model(repository, "caller", CALLER_CONFIG, CALLER)
    add_model(repository, "around", AROUND)
    add_model(repository, "repeat", REPEAT_CONFIG, REPEAT)
    return repository


def test_calls_of_other_models_are_parts_of_the_trace_that_they_are_given(calling: Path, tmp_path: Path) -> None:
    path = tmp_path / "traces.json"
    calls = [("identity", True), ("identity", False), ("repeat", True), ("chain", True), ("nope", True)]
    with serving(calling, TraceOptions(level=TIMESTAMPS, rate=1, file=str(path))) as server:
        assert ask(server, "around", "IN", json.dumps(calls)) == "none"
    entries = json.loads(path.read_text())
    models = [(entry["id"], entry["model_name"], entry.get("parent_id")) for entry in entries if "model_name" in entry]
    assert models == [
        (1, "around", None),
        (2, "caller", 1),
        (3, "identity", 2),
        (4, "repeat", 2),
        (5, "chain", 2),
        (6, "identity", 5),
        (7, "identity", 5),
    ]
    assert {entry["request_id"] for entry in entries if entry.get("parent_id") == 2} == {"inner"}
    for trace_id in (2, 3, 4):
        assert sorted(moments(entries, trace_id)) == sorted(["REQUEST_START", "QUEUE_START", *COMPUTE, "REQUEST_END"])


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
    (resource,) = messages.ExportTraceServiceRequest.FromString(_Collector.received.get(timeout=60)).resource_spans
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


def spans_of(messages: Any) -> dict[str, Any]:
    """The spans of one export by their names; those named as another one are left out."""
    request = messages.ExportTraceServiceRequest.FromString(_Collector.received.get(timeout=60))
    return {span.name: span for part in request.resource_spans for scope in part.scope_spans for span in scope.spans}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_clients_trace_goes_through_ensembles_and_calls(
    calling: Path, collector: HTTPServer, protocol: str
) -> None:
    messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    url = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
    calls = json.dumps([("identity", True)])
    with serving(calling, TraceOptions(mode="opentelemetry", level=TIMESTAMPS, rate=1000, url=url)) as server:
        if protocol == "http":
            context = ask(server, "around", "IN", calls, traceparent=TRACEPARENT)
        else:
            with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
                ones = tritonclient.grpc.InferInput("IN", [1, 2], "FP32").set_data_from_numpy(
                    np.ones((1, 2), np.float32)
                )
                answer = client.infer(
                    "around", [ones], headers={"traceparent": TRACEPARENT}, parameters={"calls": calls}
                )
                context = answer.as_numpy("CONTEXT").item().decode()
    spans = spans_of(messages)
    assert {span.trace_id.hex() for span in spans.values()} == {TRACEPARENT.split("-")[1]}
    for child, parent in (("identity", "caller"), ("caller", "around"), ("around", "InferRequest")):
        assert spans[child].parent_span_id == spans[parent].span_id
    assert spans["InferRequest"].parent_span_id.hex() == TRACEPARENT.split("-")[2]
    handed_on = json.loads(context)["traceparent"]
    assert handed_on == f"00-{spans['caller'].trace_id.hex()}-{spans['caller'].span_id.hex()}-01"
