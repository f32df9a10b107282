"""What the core may rely on in every backend: one suite over all implementations of the port, fakes included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.backend_api import Backend, BatchResult, Instance, InstanceSpec, ModelSource, Output
from conch.backends.python.backend import PythonBackend
from conch.config import pbtxt
from conch.config.complete import normalize
from conch.core.metrics import CustomMetrics
from conch.errors import ConchError
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor
from conch.testing import EchoBackend

CONFIG = """
name: "echo" backend: "python" max_batch_size: 8
input { name: "INPUT0" data_type: TYPE_FP32 dims: -1 }
output { name: "OUTPUT0" data_type: TYPE_FP32 dims: -1 }
"""

ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())])
            for request in requests
        ]
"""

BACKENDS: dict[str, Callable[[], Backend]] = {"python": PythonBackend, "echo": EchoBackend}


@pytest.fixture(params=BACKENDS)
def backend_class(request: pytest.FixtureRequest) -> Callable[[], Backend]:
    return BACKENDS[request.param]


class Bench:
    """A model that echoes, on the backend under test."""

    def __init__(self, backend_class: Callable[[], Backend], root: Path) -> None:
        self._backend_class = backend_class
        directory = root / "echo"
        (directory / "1").mkdir(parents=True)
        (directory / "1" / "model.py").write_text(ECHO)
        self.source = ModelSource("echo", 1, directory, {})
        self.config = pbtxt.from_message(normalize(pbtxt.parse(CONFIG), directory))

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[Backend]:
        backend = self._backend_class()
        try:
            yield backend
        finally:
            if isinstance(backend, PythonBackend):
                await backend.close()

    async def load(self, backend: Backend, index: int = 0) -> Instance:
        return await backend.load(InstanceSpec(self.source, self.config, f"echo_0_{index}", "CPU", 0, CustomMetrics()))

    @asynccontextmanager
    async def instance(self) -> AsyncIterator[Instance]:
        async with self.backend() as backend:
            instance = await self.load(backend)
            try:
                yield instance
            finally:
                await instance.close()


@pytest.fixture
def bench(backend_class: Callable[[], Backend], tmp_path: Path) -> Bench:
    return Bench(backend_class, tmp_path)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def request(*values: float) -> InferRequest:
    return InferRequest("echo", "1", (Tensor.from_numpy("INPUT0", np.array([values], np.float32), DataType.FP32),))


def values_of(result: BatchResult) -> list[list[float]]:
    answers = []
    for output in result.outputs:
        assert isinstance(output, Output)
        (tensor,) = output.tensors
        assert (tensor.name, tensor.datatype) == ("OUTPUT0", DataType.FP32)
        answers.append(tensor.as_numpy().ravel().tolist())
    return answers


def test_completing_a_complete_configuration_changes_nothing(bench: Bench) -> None:
    async def body() -> None:
        async with bench.backend() as backend:
            assert await backend.complete_config(bench.source, bench.config) == bench.config

    run(body())


def test_every_request_gets_its_own_answer_in_the_batchs_order(bench: Bench) -> None:
    async def body() -> None:
        async with bench.instance() as instance:
            result = await instance.execute([request(number, -number) for number in range(8)])
            assert values_of(result) == [[number, -number] for number in range(8)]

    run(body())


def test_batches_follow_each_other(bench: Bench) -> None:
    async def body() -> None:
        async with bench.instance() as instance:
            for number in range(20):
                assert values_of(await instance.execute([request(number)])) == [[number]]

    run(body())


def test_the_work_starts_at_the_call_and_not_at_the_await(bench: Bench) -> None:
    async def body() -> None:
        async with bench.instance() as instance:
            running = instance.execute([request(1)])
            assert isinstance(running, asyncio.Future)
            await asyncio.wait([running], timeout=30)
            assert running.done()

    run(body())


def test_the_durations_of_a_batch_are_not_negative(bench: Bench) -> None:
    async def body() -> None:
        async with bench.instance() as instance:
            result = await instance.execute([request(1)])
            assert min(result.compute_input_ns, result.compute_infer_ns, result.compute_output_ns) >= 0

    run(body())


def test_instances_are_loaded_concurrently_and_work_independently(bench: Bench) -> None:
    async def body() -> None:
        async with bench.backend() as backend:
            instances = await asyncio.gather(*(bench.load(backend, index) for index in range(3)))
            results = await asyncio.gather(*(instance.execute([request(n)]) for n, instance in enumerate(instances)))
            assert [values_of(result) for result in results] == [[[0]], [[1]], [[2]]]
            await asyncio.gather(*(instance.close() for instance in instances))

    run(body())


def test_an_instance_that_was_restarted_executes(bench: Bench) -> None:
    async def body() -> None:
        async with bench.instance() as instance:
            await instance.restart()
            assert values_of(await instance.execute([request(3)])) == [[3]]

    run(body())


def test_closing_twice_is_fine(bench: Bench) -> None:
    async def body() -> None:
        async with bench.instance() as instance:
            await instance.close()
            await instance.close()

    run(body())


def test_a_load_that_fails_raises_an_error_of_conch(bench: Bench) -> None:
    async def body() -> None:
        async with bench.backend() as backend:
            if isinstance(backend, EchoBackend):
                backend.load_error = ConchError("told to fail")
            (bench.source.version_directory / "model.py").write_text("raise ValueError('broken')")
            with pytest.raises(ConchError):
                await bench.load(backend)

    run(body())
