"""Models that misbehave and clients that send nonsense: each gets a clear error, and the next good request succeeds."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import gevent
import grpc
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from conch.testing import ModelRepositoryBuilder
from tests.posix_memory import objects_of
from tests.serving import ServerProcess, answers, serving, wait_until

CONFIG = """
backend: "python"
max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
dynamic_batching { }
"""

#: Behaves, unless the first element of the input commands otherwise.
COMMANDED = """
import os
import signal
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        command = int(pb_utils.get_input_tensor_by_name(requests[0], "INPUT0").as_numpy().flat[0])
        if command == 1:
            raise ValueError("boom in execute")
        if command == 2:
            return []
        if command == 3:
            return [None] * len(requests)
        if command == 4:
            return ["not a response"] * len(requests)
        if command == 5:
            os._exit(3)
        if command == 6:
            while True:
                time.sleep(1)
        if command == 7:
            return [pb_utils.InferenceResponse([pb_utils.Tensor("WRONG", np.zeros(1, np.float32))]) for _ in requests]
        if command == 8:
            error = pb_utils.TritonError("no such thing", pb_utils.TritonError.NOT_FOUND)
            return [pb_utils.InferenceResponse([], error) for _ in requests]
        if command == 9:
            os.kill(int(pb_utils.get_input_tensor_by_name(requests[0], "INPUT0").as_numpy().flat[1]), signal.SIGKILL)
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT0", pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy())]
            )
            for request in requests
        ]

    def finalize(self):
        raise RuntimeError("boom in finalize")
"""

#: Has `called`, which is as `commanded`, answer. Where the command is to kill, it names itself.
CALLS = """
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request.inputs()[0].as_numpy()) for request in requests]

    def answer(self, values):
        if values.flat[0] == 9:
            values = np.array([[9, os.getpid()]], dtype=np.float32)
        tensors = [pb_utils.Tensor("INPUT0", values)]
        call = pb_utils.InferenceRequest(model_name="called", inputs=tensors, requested_output_names=["OUTPUT0"])
        answer = call.exec()
        return pb_utils.InferenceResponse([] if answer.has_error() else answer.output_tensors(), answer.error())
"""

BROKEN = {
    "bad_syntax": ("def execute(:\n", CONFIG),
    "bad_import": ("import no_such_module\n", CONFIG),
    "no_class": ("x = 1\n", CONFIG),
    "bad_initialize": (
        "class TritonPythonModel:\n"
        "    def initialize(self, args):\n        raise ValueError('boom in initialize')\n"
        "    def execute(self, requests):\n        return []\n",
        CONFIG,
    ),
    "bad_exit": ("import os\nos._exit(5)\n", CONFIG),
    "bad_config": ("x = 1\n", "this is not { a config"),
    "bad_field": ("x = 1\n", CONFIG + "max_batch_size: -3\n"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    builder = ModelRepositoryBuilder(tmp_path_factory.mktemp("faults") / "models")
    impatient = CONFIG + 'parameters { key: "EXECUTE_TIMEOUT_SECONDS" value { string_value: "1" } }'
    builder.add("impatient", COMMANDED, impatient)
    builder.add("commanded", COMMANDED, CONFIG)
    builder.add("called", COMMANDED, CONFIG)
    builder.add("calls", CALLS, CONFIG)
    builder.add_identity()
    for name, (model_py, config) in BROKEN.items():
        builder.add(name, model_py, config)
    with serving(builder.root, "--exit-on-error=false", "--strict-readiness=false") as process:
        yield process
        assert process.stop() == 0


def ask_http(server: ServerProcess, model: str, command: float) -> np.ndarray:
    with triton_http.InferenceServerClient(server.http_url) as client:
        tensor = triton_http.InferInput("INPUT0", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.array([[command, 7.0]], dtype=np.float32))
        return client.infer(model, [tensor]).as_numpy("OUTPUT0")


def ask_grpc(server: ServerProcess, model: str, command: float) -> np.ndarray:
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        tensor = triton_grpc.InferInput("INPUT0", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.array([[command, 7.0]], dtype=np.float32))
        return client.infer(model, [tensor]).as_numpy("OUTPUT0")


ASK = {"http": ask_http, "grpc": ask_grpc}


@pytest.mark.parametrize("protocol", ASK)
@pytest.mark.parametrize(
    ("command", "http_status", "grpc_status", "text"),
    [
        (1, "500", "INTERNAL", "boom in execute"),
        (2, "500", "INTERNAL", "Number of InferenceResponse objects do not match"),
        (3, "500", "INTERNAL", "without sending the final response"),
        (4, "500", "INTERNAL", "InferenceResponse"),
        (5, "500", "INTERNAL", "Stub process 'commanded_0' is not healthy."),
        (8, "404", "NOT_FOUND", "no such thing"),
    ],
)
def test_a_model_that_misbehaves_fails_its_request_and_serves_the_next(
    server: ServerProcess, protocol: str, command: int, http_status: str, grpc_status: str, text: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        ASK[protocol](server, "commanded", command)
    status = http_status if protocol == "http" else f"StatusCode.{grpc_status}"
    assert caught.value.status() == status
    assert text in caught.value.message()
    wait_until(lambda: answers(f"http://{server.http_url}/v2/models/commanded/ready"))  # after several deaths in a row
    assert ASK[protocol](server, "commanded", 0).tolist() == [[0.0, 7.0]]


@pytest.mark.parametrize(("protocol", "status"), [("http", "503"), ("grpc", "StatusCode.UNAVAILABLE")])
def test_a_model_that_takes_too_long_fails_its_request_and_serves_again(
    server: ServerProcess, protocol: str, status: str
) -> None:
    too_late = "execute() of 'impatient_0' did not end within 1 s; its process was killed"
    with pytest.raises(InferenceServerException) as caught:
        ASK[protocol](server, "impatient", 6)
    assert (caught.value.status(), caught.value.message()) == (status, too_late)

    def serves() -> bool:
        """Whether it answers; a machine that stands still for a second makes it fail once more."""
        try:
            return ASK[protocol](server, "impatient", 0).tolist() == [[0.0, 7.0]]
        except InferenceServerException as error:
            assert error.message() == too_late
            return False

    wait_until(serves)


@pytest.mark.parametrize("protocol", ASK)
@pytest.mark.parametrize(("command", "who_dies"), [(5, "called"), (9, "calls")])
def test_a_death_amid_a_call_fails_it_and_both_models_serve_again(
    server: ServerProcess, protocol: str, command: int, who_dies: str
) -> None:
    with pytest.raises(InferenceServerException, match=f"Stub process '{who_dies}_0' is not healthy.") as caught:
        ASK[protocol](server, "calls", command)
    assert caught.value.status() == ("500" if protocol == "http" else "StatusCode.INTERNAL")
    for model in ("called", "calls"):
        wait_until(lambda model=model: answers(f"http://{server.http_url}/v2/models/{model}/ready"))
        assert ASK[protocol](server, model, 0).tolist() == [[0.0, 7.0]]


@pytest.mark.parametrize("protocol", ASK)
def test_an_output_the_model_did_not_make_is_simply_absent(server: ServerProcess, protocol: str) -> None:
    assert ASK[protocol](server, "commanded", 7) is None
    assert ASK[protocol](server, "commanded", 0).tolist() == [[0.0, 7.0]]


@pytest.mark.parametrize("protocol", ASK)
@pytest.mark.parametrize("model", BROKEN)
def test_a_model_that_does_not_load_takes_no_other_down(server: ServerProcess, protocol: str, model: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        ASK[protocol](server, model, 0)
    assert f"Request for unknown model: '{model}'" in caught.value.message()
    assert ASK[protocol](server, "identity", 3).tolist() == [[3.0, 7.0]]


def test_the_index_tells_why_a_model_did_not_load(server: ServerProcess) -> None:
    request = urllib.request.Request(f"http://{server.http_url}/v2/repository/index", data=b"{}")
    with urllib.request.urlopen(request) as answer:
        entries = {entry["name"]: entry for entry in json.load(answer)}
    assert entries["identity"]["state"] == "READY"
    assert "boom in initialize" in entries["bad_initialize"]["reason"]
    assert "no_such_module" in entries["bad_import"]["reason"]
    for name in BROKEN:
        assert entries[name]["state"] == "UNAVAILABLE"


def test_the_log_has_the_traceback_of_a_model(server: ServerProcess) -> None:
    with pytest.raises(InferenceServerException):
        ask_http(server, "commanded", 1)
    assert "Traceback" in server.log_text()
    assert "boom in execute" in server.log_text()


def test_an_instance_killed_while_idle_comes_back_at_once_and_statistics_count_it(server: ServerProcess) -> None:
    parent = psutil.Process(server.process.pid)
    before = {child.pid for child in parent.children(recursive=True)}
    for child in parent.children(recursive=True):
        child.kill()
    wait_until(lambda: not before & {child.pid for child in parent.children(recursive=True)})
    wait_until(lambda: len(parent.children(recursive=True)) == len(before))
    assert ask_http(server, "identity", 5).tolist() == [[5.0, 7.0]]  # the first request after it, not one lost
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    restarts = next(line for line in lines if line.startswith('conch_instance_restart_count{model="identity"'))
    assert float(restarts.split()[-1]) >= 1


NONSENSE = [
    (b"{", 500, "failed to parse the request JSON buffer"),
    (b"[]", 500, ""),
    (b"\xff\xfe\x00", 500, ""),
    (b'{"inputs": 3}', 500, "Unable to parse 'inputs'"),
    (b'{"inputs": [{"name": "INPUT0"}]}', 400, "Input must set only one of the following fields"),
    (b'{"inputs": []}', 400, "expected 1 inputs but got 0 inputs for model 'identity'"),
    (
        b'{"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 2], "data": [1]}]}',
        500,
        "Unable to parse 'data': Shape does not match true shape of 'data' field",
    ),
    (
        b'{"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}',
        400,
        "unexpected inference input 'X'",
    ),
    (
        b'{"inputs": [{"name": "INPUT0", "datatype": "INT32", "shape": [1, 1], "data": [1]}]}',
        400,
        "data-type is 'INT32'",
    ),
    (b'{"inputs": [{"name": "INPUT0", "datatype": "FP99", "shape": [1, 1], "data": [1]}]}', 400, "datatype"),
    (
        b'{"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [9, 1], "data": [1,1,1,1,1,1,1,1,1]}]}',
        400,
        "must be <= 8",
    ),
    (b'{"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 1], "data": [1]}]}', 500, ""),
]


@pytest.mark.parametrize(("body", "status", "text"), NONSENSE)
def test_http_nonsense_gets_an_error_and_the_next_good_request_succeeds(
    server: ServerProcess, body: bytes, status: int, text: str
) -> None:
    request = urllib.request.Request(f"http://{server.http_url}/v2/models/identity/infer", data=body)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as answer:
        assert answer.code == status
        assert text in json.load(answer)["error"]
    assert ask_http(server, "identity", 1).tolist() == [[1.0, 7.0]]


@pytest.mark.parametrize("message", [b"", b"\xff\xff\xff", b"\x0a\x05abc", b"\x0a\x08identity"])
def test_grpc_nonsense_gets_an_error_and_the_next_good_request_succeeds(server: ServerProcess, message: bytes) -> None:
    with grpc.insecure_channel(server.grpc_url) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(message, timeout=60)
        assert caught.value.code() in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.NOT_FOUND,
        )
    assert ask_grpc(server, "identity", 1).tolist() == [[1.0, 7.0]]


def test_sigterm_answers_what_is_in_flight_and_exits_with_zero(tmp_path: Path) -> None:
    started = tmp_path / "started"
    slow = COMMANDED.replace(
        "command = int(", f"open({str(started)!r}, 'w').close(); time.sleep(1.0)\n        command = int("
    )
    repository = ModelRepositoryBuilder(tmp_path / "models").add("slow", slow, CONFIG).root
    with serving(repository) as server, triton_http.InferenceServerClient(server.http_url, concurrency=2) as client:
        tensor = triton_http.InferInput("INPUT0", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.array([[0.0, 7.0]], dtype=np.float32))
        pending = client.async_infer("slow", [tensor])
        wait_until(lambda: gevent.sleep(0.02) or started.exists())  # the client sends it while gevent waits
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(signal.SIGTERM)
        assert pending.get_result().as_numpy("OUTPUT0").tolist() == [[0.0, 7.0]]
        while server.process.poll() is None:  # whoever says it again changes nothing
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.005)
        assert server.process.returncode == 0
        assert not any(child.is_running() for child in children)
        assert "boom in finalize" in server.log_text()


def test_nothing_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    repository = ModelRepositoryBuilder(tmp_path / "models").add_identity().root
    with serving(repository) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert children
        assert not objects_of(server.process.pid).union(*(objects_of(child.pid) for child in children))
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
