"""Python models written to a temporary directory and run in real child processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import uvloop

from conch.backend_api import BatchResult, InstanceSpec, ModelSource, OtherModels, Output
from conch.backends.python.backend import PythonBackend
from conch.backends.python.instance import PythonInstance
from conch.config import pbtxt
from conch.config.complete import normalize
from conch.config.schema import ModelConfig
from conch.core.metrics import CustomMetrics
from conch.errors import ConchError
from conch.inference import InferRequest, RequestedOutput
from conch.tensor import DataType, Tensor

#: Answers every input with itself, under OUTPUT<n> for INPUT<n>.
IDENTITY = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([self.echo(tensor) for tensor in request.inputs()]) for request in requests]

    def echo(self, tensor):
        name = tensor.name().replace("INPUT", "OUTPUT")
        if tensor.triton_dtype() == "BF16":
            return pb_utils.Tensor.from_dlpack(name, tensor)
        return pb_utils.Tensor(name, tensor.as_numpy())
"""

#: Evaluates the expression in its input and answers with the text of the result; "!statement" is executed instead.
EVALUATE = """
import json, os, sys, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.args = args
        self.names = {**globals(), "args": args, "model": self}

    def execute(self, requests):
        code = pb_utils.get_input_tensor_by_name(requests[0], "CODE").as_numpy()[0].decode()
        self.names |= {"requests": requests, "request": requests[0]}
        if code.startswith("!"):
            exec(code[1:], self.names)
            return self.names["answer"]
        try:
            text = repr(eval(code, self.names))
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([text], dtype=object))])]
"""

IDENTITY_CONFIG = """
max_batch_size: 8
input { name: "INPUT0" data_type: TYPE_FP32 dims: -1 }
output { name: "OUTPUT0" data_type: TYPE_FP32 dims: -1 }
"""

EVALUATE_CONFIG = """
input { name: "CODE" data_type: TYPE_STRING dims: 1 }
output { name: "OUT" data_type: TYPE_STRING dims: 1 }
output { name: "OTHER" data_type: TYPE_STRING dims: 1 }
"""


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine on a loop of its own: uvloop's, as the server does (the contract tests use asyncio's)."""
    uvloop.run(asyncio.wait_for(coroutine, 100))


def fp32(*values: float, name: str = "INPUT0") -> Tensor:
    """A FP32 tensor of shape [1, n]."""
    return Tensor.from_numpy(name, np.array([values], dtype=np.float32), DataType.FP32)


def request(*tensors: Tensor, **fields: Any) -> InferRequest:
    """A request of those inputs."""
    return InferRequest("m", "1", tensors, **fields)


def tensors_of(result: BatchResult, index: int = 0) -> tuple[Tensor, ...]:
    """The tensors one request was answered with."""
    output = result.outputs[index]
    assert isinstance(output, Output), output
    return output.tensors


def arrays_of(result: BatchResult, index: int = 0) -> list[np.ndarray]:
    """The same as arrays."""
    return [tensor.as_numpy() for tensor in tensors_of(result, index)]


class Evaluator:
    """Asks a model written as EVALUATE."""

    def __init__(self, instance: PythonInstance) -> None:
        self.instance = instance

    async def __call__(self, code: str, **fields: Any) -> str:
        """The text of an expression's value in the child."""
        return arrays_of(await self.run(code, **fields))[0][0].decode()

    async def run(self, code: str, **fields: Any) -> BatchResult:
        """The result of a batch of one."""
        data = Tensor.from_numpy("CODE", np.array([code.encode()], dtype=object), DataType.BYTES)
        return await self.instance.execute([request(data, **fields)])


class Workshop:
    """Writes models and loads them.

    Attributes:
        root: the model repository.
        metrics: where custom metrics end up.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.metrics = CustomMetrics()

    def write(self, source: str, config: str = IDENTITY_CONFIG, name: str = "m") -> tuple[ModelSource, ModelConfig]:
        """A model's files."""
        directory = self.root / name
        (directory / "1").mkdir(parents=True, exist_ok=True)
        (directory / "1" / "model.py").write_text(source)
        message = normalize(pbtxt.parse(f'name: "{name}" backend: "python"\n{config}'), directory)
        return ModelSource(name, 1, directory, {}), pbtxt.from_message(message)

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[PythonBackend]:
        """A backend that leaves no spare processes."""
        backend = PythonBackend()
        try:
            yield backend
        finally:
            await backend.close()

    @asynccontextmanager
    async def instance(
        self,
        source: str = IDENTITY,
        config: str = IDENTITY_CONFIG,
        *,
        settings: Mapping[str, str] | None = None,
        models: OtherModels | None = None,
    ) -> AsyncIterator[PythonInstance]:
        """A loaded instance `m_0_0`, closed at the end."""
        written, completed = self.write(source, config)
        model = ModelSource(written.name, 1, written.directory, settings or {})
        async with self.backend() as backend:
            instance = await backend.load(InstanceSpec(model, completed, "m_0_0", "CPU", 0, self.metrics, models))
            assert isinstance(instance, PythonInstance)
            try:
                yield instance
            finally:
                await instance.close()

    @asynccontextmanager
    async def evaluator(self, config: str = "") -> AsyncIterator[Evaluator]:
        """A loaded EVALUATE model."""
        async with self.instance(EVALUATE, EVALUATE_CONFIG + config) as instance:
            yield Evaluator(instance)

    def load_error(self, source: str, config: str = IDENTITY_CONFIG, settings: Mapping[str, str] | None = None) -> str:
        """The text that loading such a model fails with."""

        async def load() -> str:
            with pytest.raises(ConchError) as caught:
                async with self.instance(source, config, settings=settings):
                    pass
            return caught.value.message

        return asyncio.run(load())


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


async def until(condition: Any, seconds: float = 60.0) -> None:
    """Wait for a condition; the limit only keeps a test that fails from hanging."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come true"
        await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def open_descriptors() -> int:
    """How many descriptors this process holds."""
    return len(list(Path("/proc/self/fd").iterdir()))


def requested(*names: str) -> Sequence[RequestedOutput]:
    """Requested outputs of those names."""
    return tuple(RequestedOutput(name) for name in names)


def stubs() -> list[psutil.Process]:
    """The model processes this process has started (servers that other tests keep are children, too, but no stubs)."""
    found = []
    for child in psutil.Process().children():
        try:
            if any("conch_stub" in argument for argument in child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found
