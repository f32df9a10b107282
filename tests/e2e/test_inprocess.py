"""`conch.Server`: a repository served inside the program."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import conch
from conch.errors import CancelledError, ConchError, InvalidArgumentError, NotFoundError, UnavailableError
from conch.testing import ModelRepositoryBuilder

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)

REPEAT = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            count = int(pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy()[0])
            sender = request.get_response_sender()
            for number in range(count):
                array = pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy() * 0 + number
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("NUMBER", array)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
REPEAT_CONFIG = """
backend: "python"
input [ { name: "COUNT" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "NUMBER" data_type: TYPE_INT32 dims: [ 1 ] } ]
model_transaction_policy { decoupled: true }
"""

#: Executes until the file is there.
SLOW = """
import os
import time


class TritonPythonModel:
    def execute(self, requests):
        while not os.path.exists("FILE"):
            time.sleep(0.01)
        return []
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return ModelRepositoryBuilder(tmp_path / "models").add_identity().root


def test_a_model_answers_with_arrays(repository: Path) -> None:
    with conch.Server(repository) as server:
        model = server.model("identity")
        assert server.live() and server.ready() and model.ready()
        (response,) = model.infer(inputs={"INPUT0": ARRAY}, request_id="mine")
        np.testing.assert_array_equal(response.outputs["OUTPUT0"], ARRAY)
        assert (response.model_version, response.request_id, response.final) == ("1", "mine", True)
        assert not response.outputs["OUTPUT0"].flags.writeable
        assert model.metadata()["inputs"][0] == {"name": "INPUT0", "datatype": "FP32", "shape": (-1, -1)}
        assert model.config()["max_batch_size"] == 8
        assert server.metadata()["name"] == "triton"
        assert model.statistics()[0]["inference_count"] == 2
        assert 'nv_inference_count{model="identity",version="1"} 2' in server.metrics()
        assert list(server.models()) == [("identity", "1")]


def test_requests_can_be_awaited(repository: Path) -> None:
    async def ask(model: conch.Model) -> list[float]:
        async def one(number: int) -> float:
            (response,) = [
                answer async for answer in model.async_infer(inputs={"INPUT0": np.full((1, 1), number, np.float32)})
            ]
            return float(response.outputs["OUTPUT0"][0, 0])

        return list(await asyncio.gather(*map(one, range(20))))

    with conch.Server(repository) as server:
        assert asyncio.run(ask(server.model("identity"))) == list(range(20))


def test_errors_are_raised_or_handed_over(repository: Path) -> None:
    with conch.Server(repository) as server:
        model = server.model("identity")
        with pytest.raises(InvalidArgumentError, match="unexpected inference input 'WRONG'"):
            next(model.infer(inputs={"WRONG": ARRAY}))
        (response,) = model.infer(inputs={"WRONG": ARRAY}, raise_on_error=False)
        assert isinstance(response.error, InvalidArgumentError)
        with pytest.raises(NotFoundError, match="unknown model"):
            next(server.model("nope").infer(inputs={}))
        with pytest.raises(NotFoundError):
            server.model("nope").metadata()


def test_models_are_loaded_and_unloaded(repository: Path) -> None:
    with conch.Server(repository, model_control_mode="explicit") as server:
        assert not server.model("identity").ready()
        model = server.load("identity")
        assert model.ready()
        server.load("identity", {"config": {**model.config(), "max_batch_size": 3, "dynamic_batching": {}}})
        assert model.config()["max_batch_size"] == 3
        server.unload("identity")
        assert not model.ready()
        with pytest.raises(ConchError, match="failed to load 'nope'"):
            server.load("nope")
        with pytest.raises(InvalidArgumentError, match="load parameter 'color'"):
            server.load("identity", {"color": "red"})


def test_a_decoupled_model_answers_any_number_of_times(tmp_path: Path) -> None:
    root = ModelRepositoryBuilder(tmp_path / "models").add("repeat", REPEAT, REPEAT_CONFIG).root
    with conch.Server(root) as server:
        for count in (0, 1, 5):
            responses = server.model("repeat").infer(inputs={"COUNT": np.array([count], np.int32)})
            assert [int(response.outputs["NUMBER"][0]) for response in responses] == list(range(count))


def test_a_request_can_be_given_up(tmp_path: Path) -> None:
    go = tmp_path / "go"
    root = ModelRepositoryBuilder(tmp_path / "models").add("slow", SLOW.replace("FILE", str(go)), REPEAT_CONFIG).root
    with conch.Server(root) as server:
        waiting = server.model("slow").infer(inputs={"COUNT": np.array([1], np.int32)})
        waiting.cancel()
        with pytest.raises(CancelledError):
            next(waiting)
        go.touch()


def test_a_model_that_does_not_load_keeps_the_server_from_starting(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    root = ModelRepositoryBuilder(tmp_path / "models").add("broken", "import nothing_of_that_name", REPEAT_CONFIG).root
    server = conch.Server(root)
    with pytest.raises(ConchError, match=r"'broken': .*nothing_of_that_name"):
        server.start()
    assert threads.issuperset(threading.enumerate())
    with conch.Server(root, exit_on_error=False) as tolerant:
        assert not tolerant.model("broken").ready()


def test_a_server_that_does_not_run_says_so(repository: Path) -> None:
    server = conch.Server(repository)
    assert not server.live() and not server.ready()
    with pytest.raises(UnavailableError, match="call start"):
        server.model("identity").ready()
    server.stop()


def test_wrong_options_are_told_at_once(repository: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no option \['model_store'\]"):
        conch.Server(repository, model_store="x")
    with pytest.raises(InvalidArgumentError, match="option 'exit_timeout_secs' must be int, got '3'"):
        conch.Server(repository, exit_timeout_secs="3")
    with pytest.raises(InvalidArgumentError, match="is not a directory"):
        conch.Server(repository / "nowhere").start()


def test_a_program_that_forgets_to_stop_ends_all_the_same(repository: Path) -> None:
    program = f"""
import numpy as np, conch
server = conch.Server({str(repository)!r}).start()
print(next(server.model("identity").infer(inputs={{"INPUT0": np.ones((1, 2), np.float32)}})).outputs["OUTPUT0"])
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "[[1. 1.]]\n", "")


def test_importing_conch_imports_nothing_heavy() -> None:
    program = "import sys, conch; print(any(name in sys.modules for name in ('numpy', 'asyncio', 'google.protobuf')))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "False\n"
