"""Readiness of a model over both protocols, as the model itself says it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from tests.serving import ServerProcess, serving

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


@pytest.fixture
def switch_server(tmp_path: Path) -> Iterator[ServerProcess]:
    directory = tmp_path / "models" / "switch"
    (directory / "1").mkdir(parents=True)
    (directory / "1" / "model.py").write_text(MODEL)
    (directory / "config.pbtxt").write_text(CONFIG)
    with serving(tmp_path / "models") as server:
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
        assert not http.is_model_ready("nobody")
        assert not grpc.is_model_ready("switch", "7")
