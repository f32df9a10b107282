from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conch.backends.onnxruntime.backend import OnnxRuntimeBackend
from conch.backends.onnxruntime.engine import OnnxEngine
from conch.errors import BackendError, ConchError, InternalError, InvalidArgumentError, UnavailableError
from conch.tensor import DataType
from tests.unit.backends.engines.bench import (
    FP32_IO,
    arrays_of,
    config_of,
    fp32,
    loaded,
    negation,
    onnx_model,
    request,
    run,
    save_onnx,
    spec_of,
    write_config,
)

HEAD = 'backend: "onnxruntime"\n'
BATCHING = HEAD + "max_batch_size: 8\n" + FP32_IO


def complete(source: Any) -> Any:
    return asyncio.run(OnnxRuntimeBackend().complete_config(source, config_of(source)))


def refusal(source: Any, kind: type[ConchError] = ConchError) -> str:
    """The error of completing and loading the model, which must fail."""

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source):
            raise AssertionError("it loaded")

    with pytest.raises(kind) as caught:
        run(body())
    return caught.value.message


# Auto-complete


def test_a_model_with_dynamic_first_dimensions_is_completed_as_batching(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_config(tmp_path, "")
    save_onnx(source, negation(shape=("batch", 3)))
    config = complete(source)
    assert config.max_batch_size == 4
    assert config.dynamic_batching is not None
    assert config.dynamic_batching.preferred_batch_size == (4,)
    assert [(t.name, t.data_type, t.dims) for t in config.input] == [("x", DataType.FP32, (3,))]
    assert [(t.name, t.data_type, t.dims) for t in config.output] == [("y", DataType.FP32, (3,))]
    assert "autofilled max_batch_size to 4 for model 'm'" in caplog.text


def test_the_default_batch_size_comes_from_the_command_line(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_onnx(source, negation())
    source = msgspec.structs.replace(source, settings={"default-max-batch-size": "16"})
    assert complete(source).max_batch_size == 16
    source = msgspec.structs.replace(source, settings={"default-max-batch-size": "0"})
    config = complete(source)
    assert (config.max_batch_size, config.input[0].dims, config.dynamic_batching) == (0, (-1, -1), None)


def test_a_batch_size_that_is_given_stays(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD + "max_batch_size: 2")
    save_onnx(source, negation())
    assert complete(source).max_batch_size == 2


def test_a_model_of_fixed_size_does_not_batch(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_onnx(source, negation(shape=(1, 3)))
    config = complete(source)
    assert (config.max_batch_size, config.input[0].dims, config.dynamic_batching) == (0, (1, 3), None)


def test_a_batch_size_for_a_model_of_fixed_size_is_refused(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD + "max_batch_size: 2")
    save_onnx(source, negation(shape=(1, 3)))
    assert refusal(source) == (
        "autofill failed for model 'm': model does not support batching while non-zero max_batch_size is specified"
    )


def test_only_the_side_that_lacks_is_completed(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD + 'max_batch_size: 2 input { name: "x" data_type: TYPE_FP32 dims: 7 }')
    save_onnx(source, negation())
    config = complete(source)
    assert (config.input[0].dims, config.output[0].dims) == ((7,), (-1,))


def test_a_complete_configuration_is_left_alone_and_the_model_not_opened(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING)
    config = config_of(source)
    assert asyncio.run(OnnxRuntimeBackend().complete_config(source, config)) is config


def test_a_value_for_each_inference_gets_a_reshape(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_onnx(source, negation(shape=("batch",)))
    config = complete(source)
    assert (config.input[0].dims, config.input[0].reshape) == ((1,), ())


@pytest.mark.parametrize("name", [d.value for d in DataType if d not in (DataType.BF16, DataType.BYTES)])
def test_every_datatype_is_told_and_echoed(tmp_path: Path, name: str) -> None:
    datatype = DataType(name)
    source = write_config(tmp_path, HEAD)
    save_onnx(source, negation(helper.np_dtype_to_tensor_dtype(datatype.dtype), op="Identity"))

    async def body() -> None:
        backend = OnnxRuntimeBackend()
        assert (await backend.complete_config(source, config_of(source))).input[0].data_type is datatype
        async with loaded(backend, source) as instance:
            array = np.array([[0, 1, 1]]).astype(datatype.dtype)
            (answer,) = arrays_of(await instance.execute([request({"x": (datatype, array)})]))
            assert answer["y"].dtype == datatype.dtype
            assert answer["y"].tolist() == array.tolist()

    run(body())


def test_bf16_travels_as_its_bits(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_onnx(source, negation(TensorProto.BFLOAT16, op="Identity"))

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            bits = np.array([[0x3F80, 0xC000]], np.uint16)  # 1 and -2
            answers = arrays_of(await instance.execute([request({"x": (DataType.BF16, bits + n)}) for n in range(2)]))
            assert [answer["y"].tolist() for answer in answers] == [bits.tolist(), (bits + 1).tolist()]
            (empty,) = arrays_of(await instance.execute([request({"x": (DataType.BF16, bits[:, :0])})]))
            assert empty["y"].shape == (1, 0)

    run(body())


def test_a_model_of_sequences_is_refused(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([helper.make_node("SequenceConstruct", ["x"], ["y"])], "g", [x], [y])
    save_onnx(source, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert refusal(source).startswith("Unsupported ONNX Type 'seq(tensor(float))' for I/O 'y'")


# The configuration against the model


@pytest.mark.parametrize(
    ("io", "error"),
    [
        (
            'input { name: "z" data_type: TYPE_FP32 dims: 3 } output { name: "y" data_type: TYPE_FP32 dims: 3 }',
            "unable to load model 'm': unexpected inference input 'z', allowed inputs are: x",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: 3 } output { name: "z" data_type: TYPE_FP32 dims: 3 }',
            "unable to load model 'm': unexpected inference output 'z', allowed outputs are: y",
        ),
        (
            'input [ { name: "x" data_type: TYPE_FP32 dims: -1 }, { name: "w" data_type: TYPE_FP32 dims: -1 } ] '
            'output { name: "y" data_type: TYPE_FP32 dims: -1 }',
            "unable to load model 'm', configuration expects 2 inputs, model provides 1 ('x')",
        ),
        (
            'input { name: "x" data_type: TYPE_INT32 dims: -1 } output { name: "y" data_type: TYPE_FP32 dims: -1 }',
            "unable to load model 'm', configuration expects datatype TYPE_INT32 for input 'x', model provides "
            "TYPE_FP32",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [ -1, 2 ] } '
            'output { name: "y" data_type: TYPE_FP32 dims: -1 }',
            "model 'm', tensor 'x': the model expects 2 dimensions (shape [-1,3]) but the model configuration "
            "specifies 3 dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit "
            "tensor shape, making complete shape [-1,-1,2])",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: -1 } output { name: "y" data_type: TYPE_FP32 dims: -1 }',
            "model 'm', tensor 'x': the model expects 2 dimensions (shape [-1,3]) but the model configuration "
            "specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit "
            "tensor shape, making complete shape [-1,-1])",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: 3 optional: true } '
            'output { name: "y" data_type: TYPE_FP32 dims: 3 }',
            "unable to load model 'm', configuration expects 0 inputs, model provides 1 ('x')",
        ),
    ],
    ids=["input", "output", "count", "datatype", "dimensions", "sizes", "optional"],
)
def test_a_configuration_that_does_not_fit_the_model_is_refused(tmp_path: Path, io: str, error: str) -> None:
    source = write_config(tmp_path, HEAD + "max_batch_size: 8 " + io)
    save_onnx(source, negation(shape=("batch", 3)))
    assert refusal(source) == error


def test_a_batching_configuration_of_a_model_of_fixed_batch_is_refused(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING)
    save_onnx(source, negation(shape=(1, "size")))
    assert refusal(source) == (
        "model 'm', tensor 'x': for the model to support batching the shape should have at least 1 dimension and the "
        "first dimension must be -1; but shape expected by the model is [1,-1]"
    )


def test_an_output_may_be_told_more_exactly_than_the_model_does(tmp_path: Path) -> None:
    io = 'input { name: "x" data_type: TYPE_FP32 dims: 3 } output { name: "y" data_type: TYPE_FP32 dims: 3 }'
    source = write_config(tmp_path, HEAD + "max_batch_size: 8 " + io)
    save_onnx(source, negation())

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            (answer,) = arrays_of(await instance.execute([fp32([1, 2, 3])]))
            assert answer["y"].tolist() == [[-1, -2, -3]]

    run(body())


# Files


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING)
    path = source.version_directory / "model.onnx"
    assert refusal(source) == f"unable to find '{path}' for model instance 'm_0_0'"
    with pytest.raises(UnavailableError):
        complete(write_config(tmp_path, HEAD))


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", b"\x08\x08"], ids=["empty", "garbage", "no graph"])
def test_a_broken_file_is_an_error_of_onnxruntime(tmp_path: Path, content: bytes) -> None:
    source = write_config(tmp_path, BATCHING)
    path = source.version_directory / "model.onnx"
    path.write_bytes(content)
    text = refusal(source)
    assert text.startswith("onnx runtime error ")
    assert str(path) in text


def test_the_file_may_have_another_name(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING + 'default_model_filename: "other.onnx"')
    save_onnx(source, negation(), "other.onnx")

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            assert arrays_of(await instance.execute([fp32([1])]))[0]["y"].tolist() == [[-1]]

    run(body())


def test_a_directory_holds_the_model_and_its_weights(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING)
    weights = numpy_helper.from_array(np.arange(1000, dtype=np.float32).reshape(1, 1000), "w")
    model = onnx_model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": (TensorProto.FLOAT, ("batch", "size"))},
        {"y": (TensorProto.FLOAT, ("batch", "size"))},
        [weights],
    )
    folder = source.version_directory / "model.onnx"
    folder.mkdir()
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (folder / "weights.bin").stat().st_size >= 4000

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            (answer,) = arrays_of(await instance.execute([fp32(np.zeros(1000))]))
            assert answer["y"][0, 999] == 999

    run(body())


# Execution


def test_a_request_of_one_is_used_in_place_and_its_answer_not_copied(tmp_path: Path) -> None:
    """The engine sees the request's own memory, and what onnxruntime computed is what the output looks into."""
    source = write_config(tmp_path, BATCHING)
    save_onnx(source, negation())
    seen: dict[str, Any] = {}
    original = OnnxEngine.run

    def spy(self: OnnxEngine, inputs: Any, outputs: Any) -> Any:
        seen["in"] = inputs["x"].__array_interface__["data"][0]
        answers = original(self, inputs, outputs)
        seen["out"] = answers[0].__array_interface__["data"][0]
        return answers

    async def body(monkeypatch: pytest.MonkeyPatch) -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            monkeypatch.setattr(OnnxEngine, "run", spy)
            asked = fp32([1, 2])
            result = await instance.execute([asked])
            assert asked.inputs[0].as_numpy().__array_interface__["data"][0] == seen["in"]
            assert arrays_of(result)[0]["y"].__array_interface__["data"][0] == seen["out"]

    with pytest.MonkeyPatch.context() as monkeypatch:
        run(body(monkeypatch))


def test_data_that_is_not_aligned_is_understood(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING)
    save_onnx(source, negation())

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            asked = fp32([1, 2])
            shifted = memoryview(b"\0" + bytes(asked.inputs[0].data))[1:]
            tensor = msgspec.structs.replace(asked.inputs[0], data=shifted)
            (answer,) = arrays_of(await instance.execute([msgspec.structs.replace(asked, inputs=(tensor,))]))
            assert answer["y"].tolist() == [[-1, -2]]

    run(body())


def test_texts_are_strings_of_the_model(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_onnx(source, negation(TensorProto.STRING, op="Identity"))
    texts = [[["a", "für"]], [["", "\0b"]]]

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            requests = [request({"x": (DataType.BYTES, np.array(rows, dtype=object))}) for rows in texts]
            answers = arrays_of(await instance.execute(requests))
            assert [[e.decode() for e in answer["y"][0]] for answer in answers] == [rows[0] for rows in texts]
            with pytest.raises(BackendError, match="an element of input 'x' is no UTF-8 text"):
                await instance.execute([request({"x": (DataType.BYTES, np.array([[b"\xff"]], dtype=object))})])

    run(body())


def two_outputs() -> Any:
    shape = ("batch", "size")
    return onnx_model(
        [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])],
        {"x": (TensorProto.FLOAT, shape)},
        {"y": (TensorProto.FLOAT, shape), "z": (TensorProto.FLOAT, shape)},
    )


def test_only_the_outputs_that_the_batch_asks_for_are_computed(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_onnx(source, two_outputs())

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:

            async def names(*asked: list[str]) -> list[list[str]]:
                result = await instance.execute([fp32([1], outputs=outputs) for outputs in asked])
                return [list(answer) for answer in arrays_of(result)]

            assert await names(["z"]) == [["z"]]
            assert await names(["z"], ["z", "y"]) == [["y", "z"]] * 2
            assert await names(["z"], []) == [["y", "z"]] * 2

    run(body())


def test_an_error_of_the_model_fails_the_batch_and_the_next_one_runs(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD + "max_batch_size: 4")
    shape: tuple[int | str, ...] = ("batch", "size")
    weights = numpy_helper.from_array(np.ones((1, 3), np.float32), "w")
    save_onnx(
        source,
        onnx_model(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            {"x": (TensorProto.FLOAT, shape)},
            {"y": (TensorProto.FLOAT, shape)},
            [weights],
        ),
    )

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            with pytest.raises(BackendError, match=r"onnx runtime error \d+: Non-zero status code") as caught:
                await instance.execute([fp32([1, 2])])
            assert "[ONNXRuntimeError]" not in caught.value.message
            assert arrays_of(await instance.execute([fp32([1, 2, 3])]))[0]["y"].tolist() == [[2, 3, 4]]

    run(body())


def test_an_output_without_the_batchs_size_is_an_error_that_says_so(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD + "max_batch_size: 4 " + FP32_IO)
    save_onnx(
        source,
        onnx_model(
            [helper.make_node("Compress", ["x", "first"], ["y"], axis=0)],
            {"x": (TensorProto.FLOAT, ("batch", "size"))},
            {"y": (TensorProto.FLOAT, ("rows", "size"))},
            [numpy_helper.from_array(np.array([True]), "first")],
        ),
    )

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            with pytest.raises(BackendError) as caught:
                await instance.execute([fp32([1]), fp32([2])])
            assert caught.value.message == (
                "failed to split the output tensor 'y' in responses: expected batch size of 2 in model output, got "
                "shape [1, 1]"
            )

    run(body())


def test_a_model_without_batches_gets_one_request_at_a_time(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_onnx(source, negation(shape=("n", 2), op="Neg"))
    source = msgspec.structs.replace(source, settings={"default-max-batch-size": "0"})

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            assert arrays_of(await instance.execute([fp32([1, 2], [3, 4], [5, 6])]))[0]["y"].shape == (3, 2)
            with pytest.raises(BackendError, match="executes one request at a time, got 2"):
                await instance.execute([fp32([1, 2]), fp32([1, 2])])

    run(body())


def test_scalars_have_dimensions_of_one(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_onnx(source, negation(shape=()))

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            asked = request({"x": (DataType.FP32, np.array([3], np.float32))})
            assert arrays_of(await instance.execute([asked]))[0]["y"].tolist() == [-3]

    run(body())


def test_an_input_with_a_default_may_be_left_out(tmp_path: Path) -> None:
    io = """
    input [ { name: "x" data_type: TYPE_FP32 dims: -1 }, { name: "w" data_type: TYPE_FP32 dims: 1 optional: true } ]
    output { name: "y" data_type: TYPE_FP32 dims: -1 }
    """
    source = write_config(tmp_path, HEAD + io)
    model = onnx_model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": (TensorProto.FLOAT, ("n",)), "w": (TensorProto.FLOAT, (1,))},
        {"y": (TensorProto.FLOAT, ("n",))},
        [numpy_helper.from_array(np.array([10], np.float32), "w")],
    )
    save_onnx(source, model)

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:
            x = (DataType.FP32, np.array([1, 2], np.float32))
            w = (DataType.FP32, np.array([5], np.float32))
            assert arrays_of(await instance.execute([request({"x": x})]))[0]["y"].tolist() == [11, 12]
            assert arrays_of(await instance.execute([request({"x": x, "w": w})]))[0]["y"].tolist() == [6, 7]

    run(body())


def test_inputs_of_unequal_length_are_laid_end_to_end(tmp_path: Path) -> None:
    """`allow_ragged_batch`: the model sees one row of all elements, as Triton gives it."""
    io = """
    input [ { name: "x" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true },
            { name: "n" data_type: TYPE_FP32 dims: 1 } ]
    output { name: "y" data_type: TYPE_FP32 dims: 1 }
    """
    source = write_config(tmp_path, HEAD + "max_batch_size: 4" + io)
    model = onnx_model(
        [helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0), helper.make_node("Add", ["n", "total"], ["y"])],
        {"x": (TensorProto.FLOAT, ("all",)), "n": (TensorProto.FLOAT, ("batch", 1))},
        {"y": (TensorProto.FLOAT, ("batch", 1))},
    )
    save_onnx(source, model)

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source) as instance:

            def ask(*values: float) -> Any:
                x = np.array([values], np.float32)
                return request({"x": (DataType.FP32, x), "n": (DataType.FP32, np.zeros((1, 1), np.float32))})

            answers = arrays_of(await instance.execute([ask(1, 2, 3), ask(4)]))
            assert [answer["y"].tolist() for answer in answers] == [[[10]], [[10]]]

    run(body())


# Instances and sessions


def test_instances_on_the_cpu_share_one_session_until_the_last_closes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_config(tmp_path, BATCHING + "instance_group { count: 3 kind: KIND_CPU }")
    save_onnx(source, negation())
    config = config_of(source)

    async def body() -> None:
        backend = OnnxRuntimeBackend()
        with caplog.at_level(logging.INFO):
            instances = await asyncio.gather(*(backend.load(spec_of(source, config, index)) for index in range(3)))
        assert caplog.text.count("model 'm' version 1: onnxruntime ") == 1
        assert "CPUExecutionProvider, 3 instances that share a session and its " in caplog.text
        results = await asyncio.gather(*(each.execute([fp32([n])]) for n, each in enumerate(instances)))
        assert [arrays_of(result)[0]["y"].tolist() for result in results] == [[[0]], [[-1]], [[-2]]]
        await instances[0].close()
        await instances[1].close()
        assert arrays_of(await instances[2].execute([fp32([7])]))[0]["y"].tolist() == [[-7]]
        assert len(backend._shared) == 1
        await instances[2].close()
        assert len(backend._shared) == 0

    run(body())


def test_a_reload_takes_the_new_file_while_the_old_instances_still_serve(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING)
    save_onnx(source, negation())

    async def body() -> None:
        backend = OnnxRuntimeBackend()
        old = await backend.load(spec_of(source, config_of(source)))
        save_onnx(source, negation(op="Abs"))
        new = await backend.load(spec_of(source, config_of(source)))
        assert arrays_of(await old.execute([fp32([3])]))[0]["y"].tolist() == [[-3]]
        assert arrays_of(await new.execute([fp32([3])]))[0]["y"].tolist() == [[3]]
        await old.close()
        await new.close()

    run(body())


def test_a_session_of_its_own_for_each_instance_can_be_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parameter = 'parameters { key: "share_session_between_instances" value { string_value: "false" } }'
    source = write_config(tmp_path, BATCHING + parameter)
    save_onnx(source, negation())
    config = config_of(source)

    async def body() -> None:
        backend = OnnxRuntimeBackend()
        instances = await asyncio.gather(*(backend.load(spec_of(source, config, index)) for index in range(2)))
        assert len(backend._shared) == 2
        await asyncio.gather(*(instance.close() for instance in instances))

    run(body())


def test_a_load_that_fails_is_tried_again_from_the_start(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING)
    config = config_of(source)

    async def body() -> None:
        backend = OnnxRuntimeBackend()
        with pytest.raises(UnavailableError):
            await backend.load(spec_of(source, config))
        save_onnx(source, negation())
        instance = await backend.load(spec_of(source, config))
        await instance.close()
        assert len(backend._shared) == 0

    run(body())


def test_a_gpu_that_onnxruntime_cannot_use_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_config(tmp_path, BATCHING)
    save_onnx(source, negation())

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source, kind="GPU") as instance:
            assert arrays_of(await instance.execute([fp32([1])]))[0]["y"].tolist() == [[-1]]

    run(body())
    assert "model 'm' runs on the CPU: its instance is of KIND_GPU" in caplog.text


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_provider_that_does_not_start_leaves_the_model_on_the_cpu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with onnxruntime-gpu where a library of CUDA is missing: the provider is listed, the session is without."""
    import onnxruntime

    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    source = write_config(tmp_path, BATCHING)
    save_onnx(source, negation())

    async def body() -> None:
        async with loaded(OnnxRuntimeBackend(), source, kind="GPU") as instance:
            assert arrays_of(await instance.execute([fp32([1])]))[0]["y"].tolist() == [[-1]]

    run(body())
    assert "model 'm' does not run on the GPU: onnxruntime could not start CUDAExecutionProvider" in caplog.text


def test_onnxruntime_that_is_not_installed_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    source = write_config(tmp_path, BATCHING)
    save_onnx(source, negation())
    assert "try: pip install 'conch[onnxruntime]'" in refusal(source)


def test_an_option_that_onnxruntime_refuses_fails_the_load(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING + 'model_operations { op_library_filename: "no_such_library.so" }')
    save_onnx(source, negation())
    assert "no_such_library.so" in refusal(source, InternalError)


def test_binding_to_a_device_gives_the_same_answers(tmp_path: Path) -> None:
    """The code path of GPUs, on the one device every machine has."""
    import onnxruntime

    source = write_config(tmp_path, HEAD)
    save_onnx(source, two_outputs())
    config = complete(source)
    session = onnxruntime.InferenceSession(
        str(source.version_directory / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    engine = OnnxEngine(onnxruntime, session, config, onnxruntime.RunOptions(), ("cpu", 0), lambda: None)
    feeds = {"x": np.array([[1, -2]], np.float32)}
    bound = engine._run_bound(feeds, ["z", "y"])
    assert [array.tolist() for array in bound] == [array.tolist() for array in engine.run(feeds, ["z", "y"])]


def test_invalid_values_of_parameters_fail_the_load(tmp_path: Path) -> None:
    for key, value, text in (
        ("intra_op_thread_count", "many", "parameter 'intra_op_thread_count': failed to convert 'many'"),
        ("execution_mode", "2", "Expected values for execution_mode are 0 or 1 but got 2"),
        ("enable_mem_arena", "perhaps", "parameter 'enable_mem_arena': failed to convert 'perhaps' to boolean"),
    ):
        source = write_config(tmp_path, BATCHING + f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}')
        save_onnx(source, negation())
        assert text in refusal(source, InvalidArgumentError)
