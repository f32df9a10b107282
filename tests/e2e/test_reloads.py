"""Models that change while they are asked: over both protocols, by load and by polling."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc
import tritonclient.http

from conch.testing import ModelRepositoryBuilder
from tests.serving import ServerProcess, serving, wait_until

CONFIG = """
backend: "python"
max_batch_size: %d
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
dynamic_batching { }
instance_group [ { count: %d kind: KIND_CPU } ]
"""
MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", each * %d)]) for each in inputs]
"""


class Client(threading.Thread):
    """Asks without a pause until it is stopped.

    Attributes:
        factors: what the model multiplied with, in order, each once in a row.
        failures: whatever went wrong.
    """

    def __init__(self, ask: Callable[[], float]) -> None:
        super().__init__()
        self._ask = ask
        self._over = threading.Event()
        self.answers = 0
        self.factors: list[float] = []
        self.failures: list[BaseException] = []

    def run(self) -> None:
        while not self._over.is_set():
            try:
                factor = self._ask()
            except Exception as error:
                self.failures.append(error)
                continue
            self.answers += 1
            if not self.factors or self.factors[-1] != factor:
                self.factors.append(factor)

    def stop(self) -> None:
        self._over.set()
        self.join()


def over_http(server: ServerProcess) -> Callable[[], float]:
    client = tritonclient.http.InferenceServerClient(server.http_url)
    tensor = tritonclient.http.InferInput("INPUT0", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 10]], np.float32))
    return lambda: factor_of(client.infer("m", [tensor]).as_numpy("OUTPUT0"))


def over_grpc(server: ServerProcess) -> Callable[[], float]:
    client = tritonclient.grpc.InferenceServerClient(server.grpc_url)
    tensor = tritonclient.grpc.InferInput("INPUT0", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 10]], np.float32))
    return lambda: factor_of(client.infer("m", [tensor]).as_numpy("OUTPUT0"))


def factor_of(output: np.ndarray) -> float:
    assert output.shape == (1, 2)
    assert output[0, 1] == 10 * output[0, 0]
    return float(output[0, 0])


def load(server: ServerProcess, model: str = "m") -> None:
    request = urllib.request.Request(f"http://{server.http_url}/v2/repository/models/{model}/load", b"{}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def load_over_grpc(server: ServerProcess, model: str = "m") -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        client.load_model(model, client_timeout=60)


def children(server: ServerProcess) -> set[int]:
    """The processes of the model's instances."""
    return {child.pid for child in psutil.Process(server.process.pid).children()}


def index(server: ServerProcess) -> dict[str, str]:
    request = urllib.request.Request(f"http://{server.http_url}/v2/repository/index", b"{}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return {entry["name"]: entry.get("state", "") for entry in json.loads(answer.read())}


def rewrite(path: Path, text: str) -> None:
    """Replace a file at once: whoever polls never sees half of it."""
    whole = path.with_name(f".{path.name}")
    whole.write_text(text)
    whole.rename(path)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepositoryBuilder:
    return ModelRepositoryBuilder(tmp_path / "models").add("m", MODEL % 1, CONFIG % (8, 1))


@pytest.mark.slow
def test_no_request_fails_while_a_model_is_loaded_anew_again_and_again(repository: ModelRepositoryBuilder) -> None:
    with serving(repository.root, "--model-control-mode=explicit", "--load-model=m") as server:
        clients = [Client(ask(server)) for ask in (over_http, over_grpc, over_http, over_grpc)]
        for client in clients:
            client.start()
        try:
            for change in range(2, 7):
                repository.add("m", MODEL % change, CONFIG % (8 - change % 2, 1 + change % 2))
                (load if change % 2 else load_over_grpc)(server)
                wait_until(lambda change=change: all(client.factors[-1:] == [change] for client in clients))
            wait_until(lambda: len(children(server)) == 1)
            process = children(server)
            for count in (3, 1):
                (repository.root / "m" / "config.pbtxt").write_text(CONFIG % (8, count))
                load(server)
                assert process < children(server) or (count == 1 and process <= children(server))
            wait_until(lambda: all(client.answers > 20 for client in clients))
        finally:
            for client in clients:
                client.stop()
        assert [client.failures for client in clients] == [[], [], [], []]
        assert server.log_text().count("successfully updated the instances of 'm'") == 2
        for client in clients:
            assert client.factors == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_polling_takes_half_written_models_up_when_they_are_whole(
    tmp_path: Path, repository: ModelRepositoryBuilder
) -> None:
    with serving(repository.root, "--model-control-mode=poll", "--repository-poll-secs=1") as server:
        clients = [Client(over_http(server)), Client(over_grpc(server))]
        for client in clients:
            client.start()
        try:
            late = repository.root / "late"
            late.mkdir()
            (late / "config.pbtxt").write_text((CONFIG % (8, 1))[:100])
            wait_until(lambda: index(server).get("late") == "UNAVAILABLE")
            (late / "config.pbtxt").write_text(CONFIG % (8, 1))
            (late / "1").mkdir()
            (late / "1" / "model.py").write_text("import half_a_mod")
            wait_until(lambda: "half_a_mod" in server.log_text())
            whole = tmp_path / "model.py"
            whole.write_text(MODEL % 1)
            whole.rename(late / "1" / "model.py")
            wait_until(lambda: index(server).get("late") == "READY")
            # A version that comes, and one that goes, while the model serves.
            shutil.copytree(repository.root / "m" / "1", repository.root / "m" / "2")
            rewrite(repository.root / "m" / "2" / "model.py", MODEL % 2)
            wait_until(lambda: all(client.factors[-1:] == [2] for client in clients))
            shutil.rmtree(repository.root / "m" / "1")
            wait_until(lambda: "successfully unloaded 'm' version 1" in server.log_text())
            rewrite(repository.root / "m" / "config.pbtxt", "nope")
            wait_until(lambda: "failed to poll for model 'm'" in server.log_text())
            rewrite(repository.root / "m" / "config.pbtxt", CONFIG % (4, 1))
            rewrite(repository.root / "m" / "2" / "model.py", MODEL % 3)
            wait_until(lambda: all(client.factors[-1:] == [3] for client in clients))
            shutil.rmtree(late)
            wait_until(lambda: index(server).get("late") == "UNAVAILABLE")
        finally:
            for client in clients:
                client.stop()
        assert [client.failures for client in clients] == [[], []]
        assert [client.factors for client in clients] == [[1, 2, 3], [1, 2, 3]]
