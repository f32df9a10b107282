"""Readiness of a model over both protocols, as the model itself says it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from conch.testing import ModelRepositoryBuilder
from tests.serving import ServerProcess, answers, serving, wait_until

MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    ready = True

    async def is_ready(self):
        return self.ready

    def execute(self, requests):
        self.ready = bool(requests[0].inputs()[0].as_numpy()[0])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("DONE", each.inputs()[0].as_numpy())]) for each in requests]
"""

CONFIG = """
backend: "python"
input { name: "READY" data_type: TYPE_BOOL dims: 1 }
output { name: "DONE" data_type: TYPE_BOOL dims: 1 }
"""


#: Answers whether each of the models it knows is ready, as its server tells it: the other one, itself, none.
ASKER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def is_ready(self):
        return True

    def execute(self, requests):
        told = np.array([pb_utils.is_model_ready(name) for name in ("switch", "asker", "nobody")])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("TOLD", told)]) for _ in requests]
"""

ASKER_CONFIG = """
backend: "python"
input { name: "ANY" data_type: TYPE_BOOL dims: 1 }
output { name: "TOLD" data_type: TYPE_BOOL dims: 3 }
"""


@pytest.fixture
def switch_server(tmp_path: Path) -> Iterator[ServerProcess]:
    for name, model, config in (("switch", MODEL, CONFIG), ("asker", ASKER, ASKER_CONFIG)):
        directory = tmp_path / "models" / name
        (directory / "1").mkdir(parents=True)
        (directory / "1" / "model.py").write_text(model)
        (directory / "config.pbtxt").write_text(config)
    with serving(tmp_path / "models", "--backend-config=python,readiness-timeout-seconds=60") as server:
        yield server


def test_a_model_that_is_not_ready_says_so_and_goes_on(switch_server: ServerProcess) -> None:
    with (
        triton_http.InferenceServerClient(switch_server.http_url) as http,
        triton_grpc.InferenceServerClient(switch_server.grpc_url) as grpc,
    ):
        for ready in (True, False, True):
            tensor = triton_http.InferInput("READY", [1], "BOOL")
            tensor.set_data_from_numpy(np.array([ready]))
            assert http.infer("switch", [tensor]).as_numpy("DONE").tolist() == [ready]
            assert http.is_model_ready("switch") is ready
            assert http.is_model_ready("switch", "1") is ready
            assert grpc.is_model_ready("switch") is ready
            assert http.is_server_ready()
            question = triton_http.InferInput("ANY", [1], "BOOL").set_data_from_numpy(np.array([True]))
            assert http.infer("asker", [question]).as_numpy("TOLD").tolist() == [ready, True, False]
        assert not http.is_model_ready("nobody")
        assert not grpc.is_model_ready("switch", "7")


def test_ports_are_open_while_models_load_and_the_server_is_ready_after_it(tmp_path: Path) -> None:
    may_go_on = tmp_path / "go on"
    slow = (
        "import os, time\n"
        + MODEL
        + "    def initialize(self, args):\n"
        + f"        while not os.path.exists({str(may_go_on)!r}):\n"
        + "            time.sleep(0.01)\n"
    )
    repository = ModelRepositoryBuilder(tmp_path / "models").add("switch", slow, CONFIG).root
    with (
        serving(repository, ready=False) as server,
        triton_http.InferenceServerClient(server.http_url) as http,
        triton_grpc.InferenceServerClient(server.grpc_url) as grpc,
    ):
        assert http.is_server_live() and grpc.is_server_live()
        assert not http.is_server_ready() and not grpc.is_server_ready()
        assert not http.is_model_ready("switch") and not grpc.is_model_ready("switch")
        assert answers(f"http://127.0.0.1:{server.metrics}/metrics")
        may_go_on.touch()
        wait_until(http.is_server_ready)
        assert grpc.is_server_ready() and http.is_model_ready("switch")
