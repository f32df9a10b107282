"""What the core may rely on in every backend: one suite over all implementations of the port, fakes included."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from conch.backend_api import Backend, BatchResult, Instance, InstanceSpec, ModelSource, Output
from conch.backends.onnxruntime.backend import OnnxRuntimeBackend
from conch.backends.openvino.backend import OpenVinoBackend
from conch.backends.python.backend import PythonBackend
from conch.backends.pytorch.backend import PyTorchBackend
from conch.config import pbtxt
from conch.config.complete import normalize
from conch.core.metrics import CustomMetrics
from conch.errors import ConchError
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor
from conch.testing import EchoBackend
from tests.contract.echo_models import (
    write_exported,
    write_onnx,
    write_openvino,
    write_python,
    write_torchscript,
)

CONFIG = """
name: "echo" backend: "{backend}" max_batch_size: 8
input {{ name: "INPUT0" data_type: TYPE_FP32 dims: -1 }}
output {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: -1 }}
"""


class Kind(NamedTuple):
    """A backend under test: how it is made, its name in a configuration, how its model is written and broken."""

    make: Callable[[], Backend]
    backend: str
    write: Callable[[Path], None]
    file: str


BACKENDS = {
    "python": Kind(PythonBackend, "python", write_python, "model.py"),
    "echo": Kind(EchoBackend, "python", write_python, "model.py"),
    "onnxruntime": Kind(OnnxRuntimeBackend, "onnxruntime", write_onnx, "model.onnx"),
    "openvino": Kind(OpenVinoBackend, "openvino", write_openvino, "model.xml"),
    "torchscript": Kind(PyTorchBackend, "pytorch", write_torchscript, "model.pt"),
    "torch.export": Kind(PyTorchBackend, "pytorch", write_exported, "model.pt2"),
}

#: Those that do real work.
REAL = {name: kind for name, kind in BACKENDS.items() if name != "echo"}

THREADED = {name: kind for name, kind in REAL.items() if name != "python"}

on_threads = pytest.mark.parametrize("kind", list(THREADED.values()), ids=list(THREADED))
on_real_backends = pytest.mark.parametrize("kind", list(REAL.values()), ids=list(REAL))


@pytest.fixture(params=BACKENDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return BACKENDS[request.param]


class Bench:
    """A model that echoes, on the backend under test."""

    def __init__(self, kind: Kind, root: Path) -> None:
        self._kind = kind
        directory = root / "echo"
        (directory / "1").mkdir(parents=True)
        kind.write(directory / "1")
        self.source = ModelSource("echo", 1, directory, {})
        self.config = pbtxt.from_message(normalize(pbtxt.parse(CONFIG.format(backend=kind.backend)), directory))

    @property
    def model_file(self) -> Path:
        return self.source.version_directory / self._kind.file

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[Backend]:
        backend = self._kind.make()
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
def bench(kind: Kind, tmp_path: Path) -> Bench:
    return Bench(kind, tmp_path)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 100))


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


def test_closing_one_instance_twice_leaves_the_others_alone(bench: Bench) -> None:
    async def body() -> None:
        async with bench.backend() as backend:
            instance, other = await asyncio.gather(bench.load(backend, 0), bench.load(backend, 1))
            await asyncio.gather(instance.close(), instance.close())
            await instance.close()
            assert values_of(await other.execute([request(4)])) == [[4]]
            await other.close()

    run(body())


def test_a_load_that_fails_raises_an_error_of_conch(bench: Bench) -> None:
    async def body() -> None:
        async with bench.backend() as backend:
            if isinstance(backend, EchoBackend):
                backend.load_error = ConchError("told to fail")
            bench.model_file.write_text("raise ValueError('broken')")
            with pytest.raises(ConchError):
                await bench.load(backend)

    run(body())


@on_real_backends
def test_requests_of_unequal_batch_sizes_are_answered_in_one_batch(bench: Bench) -> None:
    async def body() -> None:
        async with bench.instance() as instance:
            arrays = [np.full((rows, 2), rows, np.float32) for rows in (1, 3, 2)]
            tensors = [Tensor.from_numpy("INPUT0", array, DataType.FP32) for array in arrays]
            result = await instance.execute([InferRequest("echo", "1", (tensor,)) for tensor in tensors])
            outputs = [output.tensors[0] for output in result.outputs if isinstance(output, Output)]
            assert [output.shape for output in outputs] == [(1, 2), (3, 2), (2, 2)]
            assert [bytes(output.data) for output in outputs] == [bytes(tensor.data) for tensor in tensors]

    run(body())


@on_real_backends
def test_a_closed_instance_executes_nothing_and_does_not_restart(bench: Bench) -> None:
    async def body() -> None:
        async with bench.instance() as instance:
            await instance.close()
            with pytest.raises(ConchError):
                await instance.execute([request(1)])
            with pytest.raises(ConchError):
                await instance.restart()

    run(body())


@on_threads
def test_a_batch_in_hand_is_answered_before_the_instance_closes(bench: Bench) -> None:
    async def body() -> None:
        async with bench.instance() as instance:
            running = asyncio.ensure_future(instance.execute([request(5)]))
            await instance.close()
            assert values_of(await running) == [[5]]

    run(body())


@on_real_backends
def test_a_load_that_is_given_up_leaves_nothing_running(bench: Bench) -> None:
    async def body() -> None:
        async with bench.backend() as backend:
            loading = asyncio.create_task(bench.load(backend))
            await asyncio.sleep(0)
            loading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loading
            instance = await bench.load(backend)
            assert values_of(await instance.execute([request(1)])) == [[1]]
            await instance.close()

    run(body())
    for thread in threading.enumerate():
        if thread.name.startswith("conch "):  # still loading what nobody waits for
            thread.join(30)
            assert not thread.is_alive()
