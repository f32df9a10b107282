"""`conch bench` and `conch compare` against real servers."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conch.cli.main import main
from conch.testing import ModelRepositoryBuilder
from tests.serving import ServerProcess, serving, wait_until

#: Adds a number that its configuration names.
ADD = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.number = np.float32(json.loads(args["model_config"])["parameters"]["number"]["string_value"])

    def execute(self, requests):
        arrays = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", array + self.number)]) for array in arrays]
"""
REFUSES = ADD.replace("return [", "raise pb_utils.TritonModelException('not today')\n        return [")
ENSEMBLE = """
platform: "ensemble" max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
ensemble_scheduling { step [
  { model_name: "both_preprocess" model_version: -1
    input_map { key: "x" value: "x" } output_map { key: "y" value: "between" } },
  { model_name: "both_core" model_version: -1
    input_map { key: "x" value: "between" } output_map { key: "y" value: "y" } }
] }
"""


def config(number: float, name: str = "x", extra: str = "") -> str:
    return f"""
    backend: "python" max_batch_size: 8
    input [ {{ name: "{name}" data_type: TYPE_FP32 dims: [ 4 ] }} ]
    output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] }} ]
    dynamic_batching {{ }}
    parameters {{ key: "number" value {{ string_value: "{number}" }} }}
    {extra}
    """


def build(root: Path) -> Path:
    builder = ModelRepositoryBuilder(root)
    builder.add("whole", ADD, config(3))
    builder.add("both_preprocess", ADD, config(1)).add("both_core", ADD, config(2.25))
    builder.add("other", ADD, config(0, name="z"))
    builder.add("refuses", REFUSES, config(0))
    builder.add_identity("image_like", dims="[ 3, 224, 224 ]")
    (root / "both" / "1").mkdir(parents=True)
    (root / "both" / "config.pbtxt").write_text(ENSEMBLE)
    task = 'parameters { key: "task" value { string_value: "text-classification" } }'
    builder.add_identity("text", datatype="TYPE_STRING", dims="[ 1 ]", extra=task)
    return root


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bench") / "models")


@pytest.fixture(scope="module")
def running_server(repository: Path) -> Iterator[ServerProcess]:
    with serving(repository) as server:
        yield server


def bench(server: ServerProcess, protocol: str, model: str, *arguments: str) -> int:
    url = server.grpc_url if protocol == "grpc" else server.http_url
    return main(["bench", model, "--protocol", protocol, "--url", url, "--warmup", "0.1", "--json", *arguments])


def measured(server: ServerProcess, capsys: pytest.CaptureFixture[str], *arguments: str, requests: int = 1) -> Any:
    """What `bench` finds out; it measures for longer where the machine is too busy to answer that many requests."""
    protocol, model, *load = arguments
    for seconds in ("0.5", "5", "40"):
        code = bench(server, protocol, model, "--seconds", seconds, *load)
        found = document(capsys)
        if all(each["requests"] >= requests for each in found["measurements"]):
            break
    assert code == 0
    return found


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_closed_and_open_loops_agree_with_the_servers_own_count(
    running_server: ServerProcess, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    load = ["--concurrency", "1,16", "--rate", "100", "--batch", "2"]
    found = measured(running_server, capsys, protocol, "whole", *load)
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [2, 4]}]
    for each in found["measurements"]:
        (own,) = each["statistics"]
        assert each["errors"] == 0
        assert each["latency"]["p50_ms"] <= each["latency"]["p99_ms"] <= each["latency"]["max_ms"]
        assert each["throughput"] == pytest.approx(2 * each["requests"] / each["seconds"])
        # The server is looked at a moment before the window opens and after it has closed.
        assert own["inferences"] == 2 * own["requests"]
        assert each["requests"] <= own["requests"] + 32
    scheduled = 100 * found["measurements"][2]["seconds"]  # the window is longer where the machine is busy
    assert abs(found["measurements"][2]["due"] - scheduled) <= 5 * scheduled**0.5


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tensors_beyond_every_window_and_frame_arrive(
    running_server: ServerProcess, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured(running_server, capsys, protocol, "image_like", "--concurrency", "8", requests=9)
    (measurement,) = found["measurements"]
    assert measurement["errors"] == 0


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_texts_are_made_for_a_model_whose_configuration_names_its_task(
    running_server: ServerProcess, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured(running_server, capsys, protocol, "text", "--concurrency", "2")
    assert (found["task"], found["inputs"][0]["datatype"]) == ("text-classification", "BYTES")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_steps_of_an_ensemble_have_their_own_figures(
    running_server: ServerProcess, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured(running_server, capsys, protocol, "both", "--concurrency", "4", requests=5)
    (measurement,) = found["measurements"]
    models = {each["model"]: each for each in measurement["statistics"]}
    assert list(models) == ["both", "both_preprocess", "both_core"]
    assert models["both_core"]["infer_ns"] > 0


@pytest.mark.parametrize(("protocol", "status"), [("http", "500"), ("grpc", "INTERNAL")])
def test_the_reason_of_a_model_that_fails_is_shown(
    running_server: ServerProcess, protocol: str, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(running_server, protocol, "refuses", "--seconds", "0.1") == 1
    assert f"model 'refuses' refuses the request: {status}: " in document(capsys)["error"]


def kill_under_load(server: ServerProcess, model: str, seconds: float) -> None:
    """Kill the server amid the measurement, which begins a tenth of a second after the first requests."""
    url = f"http://{server.http_url}/v2/models/{model}/stats"

    def executed() -> int:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return int(json.load(answer)["model_stats"][0]["execution_count"])

    wait_until(lambda: executed() > 0)
    time.sleep(seconds / 4)
    server.process.kill()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_dies_under_load_is_told_by_its_errors(
    tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ModelRepositoryBuilder(tmp_path / "models").add("whole", ADD, config(3)).root
    for seconds in (2, 10, 40):  # on a busy machine the death may come before the measurement, or after it
        with serving(root) as server:
            killer = threading.Thread(target=kill_under_load, args=(server, "whole", seconds))
            killer.start()
            code = bench(server, protocol, "whole", "--seconds", str(seconds), "--concurrency", "4")
            killer.join()
        found = document(capsys)
        (measurement,) = found["measurements"]
        if measurement["requests"] and measurement["errors"]:
            break
    assert code == 0
    assert measurement["requests"] > 0
    assert measurement["errors"] >= 4
    assert any("the first was: " in note for note in found["notes"])


def test_models_are_compared_side_by_side(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(repository / name) for name in ("whole", "both")]
    load = ["--warmup", "0.1", "--rounds", "2", "--concurrency", "1,4", "--json"]
    for seconds in ("0.4", "5"):  # the longer for a machine that is too busy to answer in half a second
        code = main(["compare", *models, *load, "--seconds", seconds])
        found = document(capsys)
        if code == 0 and all(each["throughput"] for model in found["models"] for each in model["figures"]):
            break
    assert code == 0
    whole, both = found["models"]
    assert (whole["label"], both["label"]) == ("whole", "both")
    for column, processes in ((whole, 2), (both, 3)):
        assert 0 < column["startup_s"] < 60
        assert column["memory"]["rss_bytes"] > processes * 10_000_000
        assert [figures["setting"]["concurrency"] for figures in column["figures"]] == [1, 4]
        assert all(figures["throughput"] > 0 and figures["cpu_ms"] > 0 for figures in column["figures"])
        assert column["advice"]
    (difference,) = both["differences"]
    assert (difference["output"], difference["largest"]) == ("y", pytest.approx(0.25, rel=1e-5))
    stages = {kind: stage["ms"] for kind, stage in both["figures"][1]["stages"].items()}
    assert stages["preprocess"] > 0
    assert stages["core"] > 0
    assert stages["pipeline"] == 0
    assert whole["figures"][1]["stages"]["pipeline"]["ms"] > 0


def test_a_comparison_is_printed_as_tables(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(repository / name) for name in ("whole", "both")]
    load = ["--seconds", "0.2", "--warmup", "0", "--rounds", "1", "--concurrency", "2", "--protocol", "grpc"]
    assert main(["compare", *models, *load]) == 0
    printed = capsys.readouterr().out
    for text in ("start-up", "resident memory", "concurrency 2: infer/s", "preprocess", "tune first:"):
        assert text in printed
    assert "largest difference of both from whole:" in printed
    assert "0.25" in printed


def test_models_with_other_inputs_cannot_be_compared(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(repository / "whole"), str(repository / "other")]) == 2
    assert "whole takes x FP32, and other takes z FP32" in capsys.readouterr().err


def test_a_model_that_does_not_load_shows_the_servers_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ModelRepositoryBuilder(tmp_path / "models").add("broken", "raise RuntimeError('half a model')", None).root
    assert main(["compare", str(root / "broken")]) == 1
    error = capsys.readouterr().err
    assert "the server of broken ended with 1" in error
    assert "half a model" in error
