"""Sequences in a real server, as the clients of Triton's examples send them: unary and over a stream."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from onnx import TensorProto, helper, save

from tests.serving import ServerProcess, serving

CONFIG = """
backend: "onnxruntime"
max_batch_size: {batch}
input {{ name: "INPUT" data_type: TYPE_INT32 dims: 1 }}
output {{ name: "OUTPUT" data_type: TYPE_INT32 dims: 1 }}
sequence_batching {{
  {strategy}
  state {{ input_name: "SUM_IN" output_name: "SUM_OUT" data_type: TYPE_INT32 dims: 1 {initial} }}
}}
"""
FILE = 'initial_state { name: "hundred" data_type: TYPE_INT32 dims: 1 data_file: "hundred" }'
STRATEGIES = {"direct": "direct { }", "oldest": "oldest { max_candidate_sequences: 4 }"}


def write_sum(directory: Path, batch: int, strategy: str, initial: str) -> None:
    """A model that answers the sum of its input and its state, which is the next state."""
    shape = ["batch", 1] if batch else [1]

    def described(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.INT32, shape)

    nodes = [helper.make_node("Add", ["INPUT", "SUM_IN"], [name]) for name in ("OUTPUT", "SUM_OUT")]
    graph = helper.make_graph(
        nodes, "sum", [described("INPUT"), described("SUM_IN")], [described("OUTPUT"), described("SUM_OUT")]
    )
    (directory / "1").mkdir(parents=True)
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), directory / "1/model.onnx"
    )
    (directory / "config.pbtxt").write_text(CONFIG.format(batch=batch, strategy=strategy, initial=initial))
    (directory / "initial_state").mkdir()
    (directory / "initial_state" / "hundred").write_bytes(np.array([100], np.int32).tobytes())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("repository")
    for name, strategy in STRATEGIES.items():
        write_sum(repository / name, 4, strategy, "")
        write_sum(repository / f"{name}_from_file", 4, strategy, FILE)
    write_sum(repository / "without_batches", 0, "", "")
    with serving(repository) as process:
        yield process


def tensor(module: Any, value: int, shape: tuple[int, ...] = (1, 1)) -> Any:
    made = module.InferInput("INPUT", list(shape), "INT32")
    made.set_data_from_numpy(np.full(shape, value, np.int32))
    return made


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(
    ("model", "first"),
    [("direct", 0), ("direct_from_file", 100), ("oldest", 0), ("oldest_from_file", 100), ("without_batches", 0)],
)
def test_onnx_models_keep_their_state_from_request_to_request(
    server: ServerProcess, protocol: str, model: str, first: int
) -> None:
    module = http_client if protocol == "http" else grpc_client
    url = server.http_url if protocol == "http" else server.grpc_url
    client = module.InferenceServerClient(url)
    shape = (1,) if model == "without_batches" else (1, 1)
    values = [1, 2, 4, 8]
    sums: dict[int, list[int]] = {1: [], 2: []}
    sequences = (1,) if model == "without_batches" else (1, 2)
    for position, value in enumerate(values):
        for sequence in sequences:
            answer = client.infer(
                model,
                [tensor(module, value * sequence, shape)],
                sequence_id=1000 + sequence,
                sequence_start=position == 0,
                sequence_end=position == len(values) - 1,
            )
            sums[sequence].append(int(answer.as_numpy("OUTPUT").reshape(-1)[0]))
    for sequence in sequences:
        assert sums[sequence] == [first + sequence * total for total in (1, 3, 7, 15)]
    client.close()


def test_two_sequences_over_one_stream_do_not_mix(server: ServerProcess) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with grpc_client.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(callback=partial(lambda result, error: answers.put((result, error))))
        values = [11, 7, 5, 3, 2, 0, 1]
        for position, value in enumerate(values):
            for sequence, sign in ((7, 1), ("seven", -1)):
                client.async_stream_infer(
                    "oldest",
                    [tensor(grpc_client, sign * value)],
                    request_id=f"{sequence}_{position}",
                    sequence_id=sequence,
                    sequence_start=position == 0,
                    sequence_end=position == len(values) - 1,
                )
        sums: dict[str, list[int]] = {"7": [], "seven": []}
        for _ in range(2 * len(values)):
            result, error = answers.get(timeout=60)
            assert error is None
            name, _, position_text = result.get_response().id.rpartition("_")
            assert int(position_text) == len(sums[name])
            sums[name].append(int(result.as_numpy("OUTPUT")[0, 0]))
        client.stop_stream()
    expected = np.cumsum(values).tolist()
    assert sums == {"7": expected, "seven": [-total for total in expected]}
