"""Padding through a real server: what a Python model receives, and what its clients get back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tritonclient.http as triton_http

from conch.testing import ModelRepositoryBuilder
from tests.serving import serving

#: Doubles the ids that the mask leaves, and tells the shape it got.
DOUBLE = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            ids = pb_utils.get_input_tensor_by_name(request, "ids").as_numpy()
            mask = pb_utils.get_input_tensor_by_name(request, "mask").as_numpy()
            shape = np.array([[len(requests), *ids.shape, int(mask.sum())]] * len(ids), np.int64)
            doubled = pb_utils.Tensor("doubled", 2 * ids * mask + (1 - mask) * ids)
            responses.append(pb_utils.InferenceResponse([doubled, pb_utils.Tensor("seen", shape)]))
        return responses
"""

DECLARED = {
    "sequence": {
        "inputs": {"ids": {"axis": 0, "value": 99}, "mask": {"axis": 0, "value": 0}},
        "outputs": {"doubled": {"axis": 0}},
    }
}

CONFIG = f"""
backend: "python"
max_batch_size: 4
input [
  {{ name: "ids" data_type: TYPE_INT64 dims: [ -1 ] }},
  {{ name: "mask" data_type: TYPE_INT64 dims: [ -1 ] }}
]
output [
  {{ name: "doubled" data_type: TYPE_INT64 dims: [ -1 ] }},
  {{ name: "seen" data_type: TYPE_INT64 dims: [ 4 ] }}
]
dynamic_batching {{ max_queue_delay_microseconds: 200000000 }}
instance_group {{ kind: KIND_CPU }}
parameters {{ key: "conch.padding" value {{ string_value: {json.dumps(json.dumps(DECLARED))} }} }}
parameters {{ key: "conch.max_padding_ratio" value {{ string_value: "4" }} }}
"""


def inputs(rows: int, length: int) -> list[triton_http.InferInput]:
    tensors = []
    for name, array in (("ids", np.arange(rows * length).reshape(rows, length)), ("mask", np.ones((rows, length)))):
        tensor = triton_http.InferInput(name, [rows, length], "INT64")
        tensor.set_data_from_numpy(array.astype(np.int64))
        tensors.append(tensor)
    return tensors


def test_a_python_model_gets_equal_shapes_and_clients_their_own(tmp_path: Path) -> None:
    root = ModelRepositoryBuilder(tmp_path / "models").add("double", DOUBLE, CONFIG).root
    with serving(root) as server, triton_http.InferenceServerClient(server.http_url, concurrency=3) as client:
        # The full batch of four rows is sent at once, long before its queue delay is over.
        asked = [(1, 3), (2, 5), (1, 1)]
        running = [client.async_infer("double", inputs(rows, length)) for rows, length in asked]
        for (rows, length), each in zip(asked, running, strict=True):
            answer = each.get_result(timeout=100)
            expected = 2 * np.arange(rows * length).reshape(rows, length)
            assert answer.as_numpy("doubled").tolist() == expected.tolist()
            assert answer.as_numpy("seen").tolist() == [[3, rows, 5, rows * length]] * rows
