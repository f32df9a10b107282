"""Framework backends in a real server, over both protocols."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from onnx import TensorProto

from tests.contract.echo_models import write_onnx, write_openvino, write_torchscript
from tests.serving import ServerProcess, serving
from tests.unit.backends.engines.bench import negation, save_onnx, write_config

CONFIG = """
backend: "{backend}"
max_batch_size: 8
input {{ name: "INPUT0" data_type: TYPE_FP32 dims: -1 }}
output {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: -1 }}
dynamic_batching {{ max_queue_delay_microseconds: 2000 }}
instance_group {{ count: 2 kind: KIND_CPU }}
"""

WRITERS = {"onnxruntime": write_onnx, "openvino": write_openvino, "pytorch": write_torchscript}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("repository")
    for backend, write in WRITERS.items():
        directory = repository / backend
        (directory / "1").mkdir(parents=True)
        write(directory / "1")
        (directory / "config.pbtxt").write_text(CONFIG.format(backend=backend))
    (repository / "bare" / "1").mkdir(parents=True)
    write_onnx(repository / "bare" / "1")
    save_onnx(write_config(repository, ""), negation(TensorProto.STRING, op="Identity"))
    with serving(repository) as process:
        yield process


def client_of(server: ServerProcess, protocol: str) -> tuple[Any, Any]:
    if protocol == "http":
        return http_client, http_client.InferenceServerClient(server.http_url, concurrency=8)
    return grpc_client, grpc_client.InferenceServerClient(server.grpc_url)


def ask(module: Any, client: Any, model: str, array: np.ndarray) -> np.ndarray:
    tensor = module.InferInput("INPUT0", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    answer: np.ndarray = client.infer(model, [tensor]).as_numpy("OUTPUT0")
    return answer


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("model", [*WRITERS, "bare"])
def test_every_client_gets_its_own_answer(server: ServerProcess, model: str, protocol: str) -> None:
    module, client = client_of(server, protocol)

    def one(number: int) -> None:
        array = np.full((1 + number % 3, 4), number, np.float32)
        assert np.array_equal(ask(module, client, model, array), array)

    for number in range(3):
        one(number)
    if protocol == "grpc":  # tritonclient's HTTP client must not be used by several threads
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(64)))
    client.close()


@pytest.mark.parametrize("model", WRITERS)
def test_a_large_tensor_travels_whole(server: ServerProcess, model: str) -> None:
    module, client = client_of(server, "http")
    array = np.random.default_rng(0).random((8, 100_000), np.float32)
    assert np.array_equal(ask(module, client, model, array), array)
    client.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_texts_go_through_a_model_of_strings(server: ServerProcess, protocol: str) -> None:
    module, client = client_of(server, protocol)
    texts = np.array([["für".encode(), b""], [b"b", b"c" * 5000]], dtype=object)
    tensor = module.InferInput("x", [2, 2], "BYTES")
    tensor.set_data_from_numpy(texts)
    assert client.infer("m", [tensor]).as_numpy("y").tolist() == texts.tolist()
    client.close()


def test_a_directory_with_nothing_but_the_model_is_described(server: ServerProcess) -> None:
    _, client = client_of(server, "http")
    config = client.get_model_config("bare")
    assert (config["backend"], config["platform"], config["max_batch_size"]) == ("onnxruntime", "onnxruntime_onnx", 4)
    assert config["dynamic_batching"]["preferred_batch_size"] == [4]
    metadata = client.get_model_metadata("bare")
    assert metadata["inputs"] == [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, -1]}]
    assert metadata["platform"] == "onnxruntime_onnx"
    client.close()


def test_the_log_tells_engine_provider_and_threads(server: ServerProcess) -> None:
    log = server.log_text()
    assert "model 'onnxruntime' version 1: onnxruntime " in log
    assert "CPUExecutionProvider, 2 instances that share a session and its " in log
    assert "model 'openvino' version 1: openvino " in log
    assert "model 'pytorch' version 1: torch " in log


def test_statistics_count_batches(server: ServerProcess) -> None:
    module, client = client_of(server, "http")
    before = client.get_inference_statistics("onnxruntime")["model_stats"][0]
    ask(module, client, "onnxruntime", np.zeros((3, 2), np.float32))
    after = client.get_inference_statistics("onnxruntime")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    client.close()


def test_a_broken_model_tells_why_and_the_others_serve(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "good" / "1").mkdir(parents=True)
    write_onnx(repository / "good" / "1")
    shutil.copytree(repository / "good", repository / "bad")
    (repository / "bad" / "1" / "model.onnx").write_bytes(b"no model")
    with serving(repository, "--exit-on-error=false", "--strict-readiness=false") as server:
        _, client = client_of(server, "http")
        index = {entry["name"]: entry for entry in client.get_model_repository_index()}
        assert index["good"]["state"] == "READY"
        assert "onnx runtime error 7: " in index["bad"]["reason"]
        client.close()


def test_the_server_does_not_import_engines_that_no_model_needs() -> None:
    engines = "{'torch', 'transformers', 'onnxruntime', 'openvino'}"
    program = f"import sys, conch.serving; found = {engines} & set(sys.modules); sys.exit(str(found) if found else 0)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
