"""Model directories and instances of framework backends, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from conch.backend_api import Backend, BatchResult, Instance, InstanceSpec, ModelSource, Output
from conch.config import pbtxt
from conch.config.complete import normalize
from conch.config.schema import ModelConfig
from conch.core.metrics import CustomMetrics
from conch.inference import InferRequest, RequestedOutput
from conch.tensor import DataType, Tensor

#: The model directory's name.
MODEL = "m"

FP32_IO = """
input { name: "x" data_type: TYPE_FP32 dims: -1 }
output { name: "y" data_type: TYPE_FP32 dims: -1 }
"""


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, 100))


def write_config(root: Path, config: str) -> ModelSource:
    """The model's directory with version 1, and where it lies."""
    directory = root / MODEL
    (directory / "1").mkdir(parents=True, exist_ok=True)
    (directory / "config.pbtxt").write_text(config)
    return ModelSource(MODEL, 1, directory, {})


def config_of(source: ModelSource) -> ModelConfig:
    message = pbtxt.parse((source.directory / "config.pbtxt").read_text())
    return pbtxt.from_message(normalize(message, source.directory))


def spec_of(source: ModelSource, config: ModelConfig, index: int = 0, kind: str = "CPU") -> InstanceSpec:
    return InstanceSpec(source, config, f"{MODEL}_0_{index}", kind, 0, CustomMetrics())


@asynccontextmanager
async def loaded(backend: Backend, source: ModelSource, kind: str = "CPU") -> AsyncIterator[Instance]:
    """One instance, its configuration completed from the model first."""
    config = await backend.complete_config(source, config_of(source))
    instance = await backend.load(spec_of(source, config, kind=kind))
    try:
        yield instance
    finally:
        await instance.close()


def request(
    inputs: Mapping[str, tuple[DataType, np.ndarray]], outputs: Sequence[str] = (), **more: Any
) -> InferRequest:
    tensors = tuple(Tensor.from_numpy(name, array, datatype) for name, (datatype, array) in inputs.items())
    return InferRequest(MODEL, "1", tensors, outputs=tuple(map(RequestedOutput, outputs)), **more)


def fp32(*rows: Sequence[float], name: str = "x", outputs: Sequence[str] = ()) -> InferRequest:
    return request({name: (DataType.FP32, np.array(rows, np.float32))}, outputs)


def arrays_of(result: BatchResult) -> list[dict[str, np.ndarray]]:
    """The outputs of each request; fails the test for a request that ended with an error."""
    answers = []
    for output in result.outputs:
        assert isinstance(output, Output), output
        answers.append({tensor.name: tensor.as_numpy() for tensor in output.tensors})
    return answers


def onnx_model(
    nodes: Sequence[Any],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, tuple[int, Sequence[int | str]]],
    initializers: Sequence[Any] = (),
) -> Any:
    """A model in the format of opset 17, which every ONNX Runtime of these years reads."""
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(list(nodes), "test", values[0], values[1], initializer=list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save_onnx(source: ModelSource, model: Any, filename: str = "model.onnx") -> Path:
    path = source.version_directory / filename
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def negation(kind: int = TensorProto.FLOAT, shape: Sequence[int | str] = ("batch", "size"), op: str = "Neg") -> Any:
    """y = -x (or another operator of one input)."""
    return onnx_model([helper.make_node(op, ["x"], ["y"])], {"x": (kind, shape)}, {"y": (kind, shape)})
