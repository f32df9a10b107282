"""`allow_ragged_batch`, `batch_input` and `batch_output` of every framework backend: one model, one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from conch.backend_api import Backend, ModelSource
from conch.backends.engine import BatchRunner
from conch.backends.onnxruntime.backend import OnnxRuntimeBackend
from conch.backends.openvino.backend import OpenVinoBackend
from conch.backends.pytorch.backend import PyTorchBackend
from conch.errors import BackendError, Code, ConchError
from conch.tensor import DataType
from tests.unit.backends.engines import torch_models
from tests.unit.backends.engines.bench import (
    arrays_of,
    config_of,
    fp32,
    loaded,
    onnx_model,
    request,
    run,
    save_onnx,
    write_config,
)

#: The model negates all elements, and answers each request with the ends of all requests that share its batch.
RAGGED = """
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }
output [ { name: "y" data_type: TYPE_FP32 dims: -1 }, { name: "ends" data_type: TYPE_INT32 dims: 1 } ]
batch_input { kind: BATCH_ACCUMULATED_ELEMENT_COUNT target_name: "n" data_type: TYPE_INT32 source_input: "x" }
batch_output { target_name: "y" source_input: "x" }
dynamic_batching { }
"""


def save_as_onnx(source: ModelSource, shape_of_n: Sequence[str] = ("requests",)) -> None:
    model = onnx_model(
        [
            helper.make_node("Neg", ["x"], ["y"]),
            helper.make_node("Constant", [], ["axis"], value_ints=[1]),
            helper.make_node("Unsqueeze", ["n", "axis"], ["ends"]),
        ],
        {"x": (TensorProto.FLOAT, ("elements",)), "n": (TensorProto.INT32, shape_of_n)},
        {"y": (TensorProto.FLOAT, ("elements",)), "ends": (TensorProto.INT32, ("requests", 1))},
    )
    save_onnx(source, model)


def save_as_torchscript(source: ModelSource) -> None:
    torch.jit.script(torch_models.NegationWithEnds()).save(source.version_directory / "model.pt")


ENGINES = [
    ("onnxruntime", OnnxRuntimeBackend, save_as_onnx),
    ("openvino", OpenVinoBackend, save_as_onnx),
    ("pytorch", PyTorchBackend, save_as_torchscript),
]


@pytest.mark.parametrize(("name", "backend", "save"), ENGINES, ids=[name for name, _, _ in ENGINES])
def test_requests_of_unequal_length_share_a_batch_and_get_their_own_part(
    name: str, backend: type[Backend], save: Any, tmp_path: Path
) -> None:
    source = write_config(tmp_path, f'backend: "{name}"' + RAGGED)
    save(source)

    async def body() -> None:
        async with loaded(backend(), source) as instance:
            answers = arrays_of(await instance.execute([fp32([1, 2, 3]), fp32([4]), fp32([5, 6])]))
            assert [answer["y"].tolist() for answer in answers] == [[[-1, -2, -3]], [[-4]], [[-5, -6]]]
            assert [answer["ends"].tolist() for answer in answers] == [[[3]], [[4]], [[6]]]
            alone = arrays_of(await instance.execute([fp32([7])]))
            assert alone[0]["y"].tolist() == [[-7]]

    run(body())


def refusal(source: ModelSource) -> str:
    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source):
            raise AssertionError("it loaded")

    with pytest.raises(ConchError) as caught:
        run(body())
    return caught.value.message


def test_a_batch_input_that_the_model_has_not_fails_the_load(tmp_path: Path) -> None:
    source = write_config(tmp_path, 'backend: "onnxruntime"' + RAGGED.replace('"n"', '"other"'))
    save_as_onnx(source)
    assert refusal(source) == ("unable to load model 'm': unexpected inference input 'other', allowed inputs are: x, n")


def test_a_batch_input_left_out_of_the_configuration_fails_the_load(tmp_path: Path) -> None:
    lines = [line for line in RAGGED.splitlines() if not line.startswith("batch_input")]
    source = write_config(tmp_path, 'backend: "onnxruntime"' + "\n".join(lines))
    save_as_onnx(source)
    assert refusal(source) == ("unable to load model 'm', configuration expects 1 inputs, model provides 2 ('x', 'n')")


def test_a_batch_input_of_another_datatype_or_rank_fails_the_load(tmp_path: Path) -> None:
    text = 'backend: "onnxruntime"' + RAGGED
    source = write_config(tmp_path, text.replace("data_type: TYPE_INT32 source", "data_type: TYPE_FP32 source"))
    save_as_onnx(source)
    assert "configuration expects datatype TYPE_FP32 for input 'n', model provides TYPE_INT32" in refusal(source)
    source = write_config(tmp_path, text.replace("BATCH_ACCUMULATED_ELEMENT_COUNT", "BATCH_ITEM_SHAPE"))
    assert "batch input 'n' has 2 dimension(s), the model expects shape [-1]" in refusal(source)


def test_completion_leaves_inputs_that_no_client_gives_out(tmp_path: Path) -> None:
    lines = [line for line in RAGGED.splitlines() if not line.startswith(("input", "output"))]
    text = 'backend: "onnxruntime"\n' + "\n".join(lines)
    message = f'{text}\ninput {{ name: "x" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }}'
    source = write_config(tmp_path, message.replace('batch_output { target_name: "y" source_input: "x" }', ""))
    save_as_onnx(source)

    async def body() -> None:
        config = await OnnxRuntimeBackend().complete_config(source, config_of(source))
        assert [spec.name for spec in config.input] == ["x"]
        assert [spec.name for spec in config.output] == ["y", "ends"]

    run(body())


class Doubling:
    """An engine that answers with one element too many where asked for it."""

    def __init__(self, surplus: int = 0) -> None:
        self._surplus = surplus
        self.given: Mapping[str, np.ndarray] = {}

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Sequence[np.ndarray]:
        self.given = inputs
        whole = np.append(inputs["x"] * 2, np.zeros(self._surplus, np.float32))
        return [whole if name == "y" else inputs["n"].reshape(-1, 1) for name in outputs]

    def close(self) -> None:
        self.given = {}


def runner(tmp_path: Path, engine: Doubling, text: str = RAGGED) -> BatchRunner:
    return BatchRunner(config_of(write_config(tmp_path, 'backend: "pytorch"' + text)), engine)


def test_an_input_made_of_a_batch_goes_under_every_name_it_has(tmp_path: Path) -> None:
    engine = Doubling()
    runner(tmp_path, engine, RAGGED.replace('target_name: "n"', 'target_name: [ "n", "again" ]')).run([fp32([1, 2])])
    assert {name: array.tolist() for name, array in engine.given.items()} == {"x": [1, 2], "n": [2], "again": [2]}


def test_an_answer_of_the_wrong_size_fails_the_batch(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="has 4 elements, its requests ask for 3"):
        runner(tmp_path, Doubling(surplus=1)).run([fp32([1]), fp32([2, 3])])


def test_a_request_without_the_source_fails_the_batch(tmp_path: Path) -> None:
    text = RAGGED.replace("allow_ragged_batch: true", "allow_ragged_batch: true optional: true")
    other = '\ninput { name: "z" data_type: TYPE_FP32 dims: -1 optional: true }'
    without = request({"z": (DataType.FP32, np.zeros((1, 1), np.float32))})
    with pytest.raises(BackendError) as caught:
        runner(tmp_path, Doubling(), text + other).run([without])
    assert caught.value.code is Code.INVALID_ARG
    assert caught.value.message.startswith("input 'x' tells of the batch, so every request must have it; 1 of 1 do not")
