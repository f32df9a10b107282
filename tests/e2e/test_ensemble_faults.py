"""Ensembles whose steps are missing, fail, die or are given up: only the requests concerned fail, and say where."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from conch.testing import ModelRepositoryBuilder
from tests.serving import ServerProcess, serving, wait_until

#: Echoes, unless the first element commands otherwise; notes its process and every execution beside the repository.
STEP = """
import os
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.notes = Path(args["model_repository"]).parent.parent / "notes"
        self.notes.mkdir(exist_ok=True)
        self.name = args["model_name"]
        (self.notes / f"{self.name}.pid").write_text(str(os.getpid()))

    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            with open(self.notes / f"{self.name}.executions", "a") as note:
                note.write(f"{values.flat[0]}\\n")
            command = int(values.flat[0])
            if command == 1:
                raise ValueError("boom in execute")
            if command == 2:
                error = pb_utils.TritonError("no such thing", pb_utils.TritonError.NOT_FOUND)
                responses.append(pb_utils.InferenceResponse([], error))
                continue
            if command == 3:
                os._exit(3)
            if command == 4:
                values = values[:, :1]
            while command == 5 and not (self.notes / "go").exists():
                time.sleep(0.01)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", values)]))
        return responses
"""


def python_config(size: int = -1) -> str:
    return f"""
    backend: "python"
    max_batch_size: 8
    input [ {{ name: "X" data_type: TYPE_FP32 dims: [ {size} ] }} ]
    output [ {{ name: "Y" data_type: TYPE_FP32 dims: [ {size} ] }} ]
    dynamic_batching {{ }}
    """


def ensemble_config(*models: str) -> str:
    """X -> the first model -> ... -> the last model -> Y."""
    tensors = ["X", *(f"t{number}" for number in range(1, len(models))), "Y"]
    steps = "\n".join(
        f'step {{ model_name: "{model}" model_version: -1 input_map {{ key: "X" value: "{tensors[number]}" }} '
        f'output_map {{ key: "Y" value: "{tensors[number + 1]}" }} }}'
        for number, model in enumerate(models)
    )
    return f"""
    platform: "ensemble"
    max_batch_size: 8
    input [ {{ name: "X" data_type: TYPE_FP32 dims: [ -1 ] }} ]
    output [ {{ name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }} ]
    ensemble_scheduling {{ {steps} }}
    """


def add_ensemble(builder: ModelRepositoryBuilder, name: str, *models: str) -> None:
    directory = builder.root / name
    (directory / "1").mkdir(parents=True)
    (directory / "config.pbtxt").write_text(ensemble_config(*models))


def build(root: Path) -> ModelRepositoryBuilder:
    builder = ModelRepositoryBuilder(root)
    builder.add("prepare", STEP, python_config())
    builder.add("pair", STEP, python_config(2))
    builder.add("finish", STEP, python_config())
    add_ensemble(builder, "pipe", "prepare", "pair", "finish")
    add_ensemble(builder, "outer", "pipe", "finish")
    add_ensemble(builder, "other", "finish")
    return builder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    builder = build(tmp_path_factory.mktemp("ensembles") / "models")
    add_ensemble(builder, "incomplete", "prepare", "nowhere")
    with serving(builder.root, "--exit-on-error=false", "--strict-readiness=false") as process:
        yield process
        assert process.stop() == 0


@pytest.fixture
def notes(server: ServerProcess) -> Iterator[Path]:
    """What the steps write down; their executions are forgotten after each test."""
    directory = server.log.parent / "notes"
    yield directory
    for path in [*directory.glob("*.executions"), directory / "go"]:
        path.unlink(missing_ok=True)


def executions(notes: Path, model: str) -> int:
    path = notes / f"{model}.executions"
    return len(path.read_text().split()) if path.exists() else 0


def http_input(*values: float) -> list[triton_http.InferInput]:
    tensor = triton_http.InferInput("X", [1, len(values)], "FP32")
    tensor.set_data_from_numpy(np.array([values], dtype=np.float32))
    return [tensor]


def grpc_input(*values: float) -> list[triton_grpc.InferInput]:
    tensor = triton_grpc.InferInput("X", [1, len(values)], "FP32")
    tensor.set_data_from_numpy(np.array([values], dtype=np.float32))
    return [tensor]


def ask_http(server: ServerProcess, model: str, *values: float) -> list[list[float]]:
    with triton_http.InferenceServerClient(server.http_url) as client:
        return client.infer(model, http_input(*values)).as_numpy("Y").tolist()


def ask_grpc(server: ServerProcess, model: str, *values: float) -> list[list[float]]:
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        return client.infer(model, grpc_input(*values)).as_numpy("Y").tolist()


Ask = Callable[..., list[list[float]]]
ASK: dict[str, Ask] = {"http": ask_http, "grpc": ask_grpc}
STATUS = {"http": "{}", "grpc": "StatusCode.{}"}


def failure(ask: Ask, server: ServerProcess, model: str, *values: float) -> InferenceServerException:
    with pytest.raises(InferenceServerException) as caught:
        ask(server, model, *values)
    return caught.value


def canceled(server: ServerProcess, model: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    start = f'nv_inference_request_failure{{model="{model}"'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start) and 'reason="CANCELED"' in line)


@pytest.mark.parametrize("protocol", ASK)
@pytest.mark.parametrize(
    ("command", "http_status", "grpc_status", "text"),
    [
        (1, "500", "INTERNAL", "in ensemble 'pipe', Failed to process the request(s) for model 'prepare_0'"),
        (2, "404", "NOT_FOUND", "in ensemble 'pipe', step 'prepare': no such thing"),
        (3, "500", "INTERNAL", "in ensemble 'pipe', Stub process 'prepare_0' is not healthy."),
    ],
)
def test_the_error_of_a_step_names_it_and_the_next_request_succeeds(
    server: ServerProcess, notes: Path, protocol: str, command: int, http_status: str, grpc_status: str, text: str
) -> None:
    ask = ASK[protocol]
    error = failure(ask, server, "pipe", command, 7)
    assert error.status() == STATUS[protocol].format(http_status if protocol == "http" else grpc_status)
    assert error.message().startswith(text)
    assert executions(notes, "finish") == 0
    wait_until(lambda: succeeds(ask, server, "pipe"))


def succeeds(ask: Ask, server: ServerProcess, model: str) -> bool:
    """Whether a model answers (a step that died several times in a row takes a moment to come back)."""
    try:
        return ask(server, model, 0, 7) == [[0, 7]]
    except InferenceServerException as error:
        assert "not healthy" in error.message()
        return False


@pytest.mark.parametrize("protocol", ASK)
def test_a_shape_that_does_not_fit_the_next_step_says_which(server: ServerProcess, notes: Path, protocol: str) -> None:
    ask = ASK[protocol]
    error = failure(ask, server, "pipe", 4, 7)  # the first step makes one element of two
    assert error.status() == STATUS[protocol].format("400" if protocol == "http" else "INVALID_ARGUMENT")
    assert "in ensemble 'pipe', " in error.message()
    assert "unexpected shape for input 'X' for model 'pair'. Expected [-1,2], got [1,1]" in error.message()
    assert ask(server, "pipe", 0, 7) == [[0, 7]]


@pytest.mark.parametrize("protocol", ASK)
def test_an_error_in_a_nested_ensemble_names_every_level(server: ServerProcess, notes: Path, protocol: str) -> None:
    error = failure(ASK[protocol], server, "outer", 2, 7)
    assert error.message() == "in ensemble 'outer', in ensemble 'pipe', step 'prepare': no such thing"


@pytest.mark.parametrize("protocol", ASK)
def test_an_ensemble_without_one_of_its_models_takes_no_other_down(
    server: ServerProcess, notes: Path, protocol: str
) -> None:
    ask = ASK[protocol]
    assert "Request for unknown model: 'incomplete'" in failure(ask, server, "incomplete", 0).message()
    assert ask(server, "pipe", 0, 7) == [[0, 7]]
    request = urllib.request.Request(f"http://{server.http_url}/v2/repository/index", data=b"{}")
    with urllib.request.urlopen(request) as answer:
        entries = {entry["name"]: entry for entry in json.load(answer)}
    assert entries["incomplete"] == {
        "name": "incomplete",
        "state": "UNAVAILABLE",
        "reason": "Invalid argument: ensemble incomplete contains models that are not available or ambiguous: nowhere",
    }


def test_a_step_killed_under_load_fails_only_the_requests_in_it(tmp_path: Path) -> None:
    with serving(build(tmp_path / "models").root) as server:
        models = ["pipe", "pipe", "pipe", "pipe", "other", "other"]
        with under_load(server, models) as outcomes:
            for _ in range(2):
                kill_step(tmp_path / "notes" / "prepare.pid", outcomes["pipe"])
        assert set(outcomes["other"]) == {"good"}
        failures = [outcome for outcome in outcomes["pipe"] if outcome != "good"]
        assert all("in ensemble 'pipe', Stub process 'prepare_0' is not healthy." in text for text in failures)
        assert len(failures) <= 2 * models.count("pipe")  # at most what was in flight at each death
        assert ask_grpc(server, "pipe", 0, 7) == [[0, 7]]


@contextlib.contextmanager
def under_load(server: ServerProcess, models: list[str]) -> Iterator[dict[str, list[str]]]:
    """A client for each entry asks its model without pause; the outcomes, "good" or the error, gather by model."""
    outcomes: dict[str, list[str]] = {model: [] for model in models}
    stop = threading.Event()

    def load(model: str) -> None:
        with triton_http.InferenceServerClient(server.http_url) as client:
            while not stop.is_set():
                try:
                    result = client.infer(model, http_input(0, 7)).as_numpy("Y").tolist()
                    outcomes[model].append("good" if result == [[0, 7]] else f"wrong: {result}")
                except InferenceServerException as error:
                    outcomes[model].append(error.message())

    threads = [threading.Thread(target=load, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def kill_step(pid_file: Path, outcomes: list[str]) -> None:
    """Kill a step's process while requests come and go, and wait until they succeed again."""
    before, answered = pid_file.read_text(), len(outcomes)
    wait_until(lambda: len(outcomes) > answered + 20)
    os.kill(int(before), signal.SIGKILL)
    wait_until(lambda: pid_file.read_text() not in ("", before))
    wait_until(lambda: outcomes[-4:] == ["good"] * 4)


@pytest.mark.parametrize("protocol", ASK)
def test_giving_up_in_the_middle_starts_no_further_step(server: ServerProcess, notes: Path, protocol: str) -> None:
    before = canceled(server, "pipe")
    if protocol == "grpc":
        with triton_grpc.InferenceServerClient(server.grpc_url) as client:
            call = client.async_infer("pipe", grpc_input(5, 7), callback=lambda result, error: None)
            wait_until(lambda: executions(notes, "prepare") == 1)
            call.cancel()
            wait_until(lambda: canceled(server, "pipe") == before + 1)
    else:
        body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [5, 7]}]}
        connection = http.client.HTTPConnection("127.0.0.1", server.http)
        connection.request("POST", "/v2/models/pipe/infer", json.dumps(body))
        wait_until(lambda: executions(notes, "prepare") == 1)
        connection.close()
        wait_until(lambda: canceled(server, "pipe") == before + 1)
        assert executions(notes, "prepare") == 1
    (notes / "go").touch()
    assert ASK[protocol](server, "pipe", 0, 7) == [[0, 7]]
    assert executions(notes, "pair") == executions(notes, "finish") == 1  # those of the request after it


def test_unloading_a_step_answers_the_ensemble_requests_under_way(tmp_path: Path) -> None:
    builder = ModelRepositoryBuilder(tmp_path / "models")
    builder.add("prepare", STEP, python_config())
    builder.add("finish", STEP, python_config())
    add_ensemble(builder, "pipe", "prepare", "finish")
    with (
        serving(builder.root, "--model-control-mode=explicit", "--load-model=pipe") as server,
        triton_http.InferenceServerClient(server.http_url, concurrency=2) as client,
    ):
        notes = tmp_path / "notes"
        pending = client.async_infer("pipe", http_input(5, 7))
        # The client sends it while gevent waits.
        wait_until(lambda: gevent.sleep(0.02) or executions(notes, "prepare") == 1)
        client.unload_model("finish")
        assert (
            "Request for unknown model: 'pipe' has no available versions"
            in failure(ask_http, server, "pipe", 0, 7).message()
        )
        (notes / "go").touch()
        assert pending.get_result().as_numpy("Y").tolist() == [[5, 7]]
        wait_until(lambda: "successfully unloaded 'finish' version 1" in server.log_text())
        client.load_model("finish")
        assert ask_grpc(server, "pipe", 0, 7) == [[0, 7]]
        assert server.stop() == 0
