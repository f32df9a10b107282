from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from conch.backends.openvino import options
from conch.backends.openvino.backend import OpenVinoBackend
from conch.backends.openvino.options import plan_compile
from conch.errors import BackendError, ConchError
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

HEAD = 'backend: "openvino"\n'
BATCHING = HEAD + "max_batch_size: 8\n" + FP32_IO


def save_ir(source: Any, model: Any) -> None:
    """The model as model.xml and model.bin."""
    path = save_onnx(source, model, "before.onnx")
    openvino.save_model(
        openvino.Core().read_model(path), source.version_directory / "model.xml", compress_to_fp16=False
    )
    path.unlink()


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }} '


def refusal(source: Any) -> str:
    async def body() -> None:
        async with loaded(OpenVinoBackend(), source):
            raise AssertionError("it loaded")

    with pytest.raises(ConchError) as caught:
        run(body())
    return caught.value.message


def answers(source: Any, *requests: Any) -> list[dict[str, np.ndarray]]:
    """What the model answers to one batch."""
    found: list[dict[str, np.ndarray]] = []

    async def body() -> None:
        async with loaded(OpenVinoBackend(), source) as instance:
            found.extend(arrays_of(await instance.execute(requests)))

    run(body())
    return found


def plan(tmp_path: Path, text: str, **settings: str) -> Any:
    source = write_config(tmp_path, BATCHING + text)
    source = msgspec.structs.replace(source, settings=settings)
    return plan_compile(spec_of(source, config_of(source)))


# Auto-complete and files


def test_a_directory_with_an_ir_needs_no_configuration(tmp_path: Path) -> None:
    source = write_config(tmp_path, "")
    save_ir(source, negation(shape=("batch", 3)))
    config = asyncio.run(OpenVinoBackend().complete_config(source, config_of(source)))
    assert (config.backend, config.max_batch_size, config.default_model_filename) == ("openvino", 4, "model.xml")
    assert [(t.name, t.data_type, t.dims) for t in config.input] == [("x", DataType.FP32, (3,))]
    assert [(t.name, t.data_type, t.dims) for t in config.output] == [("y", DataType.FP32, (3,))]
    assert config.dynamic_batching is not None


@pytest.mark.parametrize("named", [True, False])
def test_an_onnx_file_is_read_as_it_is(tmp_path: Path, named: bool) -> None:
    source = write_config(tmp_path, BATCHING + ('default_model_filename: "model.onnx"' if named else ""))
    save_onnx(source, negation())
    assert answers(source, fp32([1, 2]))[0]["y"].tolist() == [[-1, -2]]


def test_a_missing_and_a_broken_file_are_named(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING)
    path = source.version_directory / "model.xml"
    assert refusal(source) == f"unable to find '{path}' for model instance 'm_0_0'"
    path.write_text("<no>model</no>")
    text = refusal(source)
    assert text.startswith("openvino error: ")
    assert str(path) in text
    assert "Exception from" not in text


def test_a_configuration_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING.replace("TYPE_FP32", "TYPE_INT32"))
    save_ir(source, negation())
    assert refusal(source) == (
        "unable to load model 'm', configuration expects datatype TYPE_INT32 for input 'x', model provides TYPE_FP32"
    )


def test_openvino_that_is_not_installed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    assert "try: pip install 'conch[openvino]'" in refusal(write_config(tmp_path, BATCHING))


def test_an_alias_of_a_tensor_may_be_used(tmp_path: Path) -> None:
    """Converted models have several names for a tensor; the configuration chooses."""
    source = write_config(tmp_path, BATCHING.replace('"y"', '"alias"'))
    path = save_onnx(source, negation(), "before.onnx")
    model = openvino.Core().read_model(path)
    model.outputs[0].get_tensor().add_names({"alias"})
    openvino.save_model(model, source.version_directory / "model.xml", compress_to_fp16=False)
    assert answers(source, fp32([1]))[0]["alias"].tolist() == [[-1]]


# Execution


@pytest.mark.parametrize("name", [d.value for d in DataType if d not in (DataType.BF16, DataType.BYTES)])
def test_datatypes_are_echoed(tmp_path: Path, name: str) -> None:
    datatype = DataType(name)
    source = write_config(tmp_path, HEAD)
    save_ir(source, negation(helper.np_dtype_to_tensor_dtype(datatype.dtype), op="Identity"))
    array = np.array([[0, 1, 1]]).astype(datatype.dtype)
    (answer,) = answers(source, request({"x": (datatype, array)}))
    assert answer["y"].dtype == datatype.dtype
    assert answer["y"].tolist() == array.tolist()


def test_bf16_travels_as_its_bits(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_ir(source, negation(TensorProto.BFLOAT16, op="Identity"))
    bits = np.array([[0x3F80, 0xC000]], np.uint16)
    assert answers(source, request({"x": (DataType.BF16, bits)}))[0]["y"].tolist() == bits.tolist()


def test_strings_are_refused_since_they_would_end_the_process(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_onnx(source, negation(TensorProto.STRING, op="Identity"))
    assert refusal(source).startswith("unsupported element type 'string' of tensor 'x'; expected one of f32")


def test_an_answer_is_not_overwritten_by_the_next_run(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING)
    save_ir(source, negation())

    async def body() -> None:
        async with loaded(OpenVinoBackend(), source) as instance:
            first = await instance.execute([fp32([1, 2])])
            await instance.execute([fp32([3, 4])])
            assert arrays_of(first)[0]["y"].tolist() == [[-1, -2]]

    run(body())


def test_an_error_of_the_model_fails_the_batch_and_the_next_one_runs(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING)
    save_ir(
        source,
        onnx_model(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            {"x": (TensorProto.FLOAT, ("batch", "size"))},
            {"y": (TensorProto.FLOAT, ("batch", "size"))},
            [numpy_helper.from_array(np.ones((1, 3), np.float32), "w")],
        ),
    )

    async def body() -> None:
        async with loaded(OpenVinoBackend(), source) as instance:
            with pytest.raises(BackendError, match=r"^openvino error: "):
                await instance.execute([fp32([1, 2])])
            assert arrays_of(await instance.execute([fp32([1, 2, 3])]))[0]["y"].tolist() == [[2, 3, 4]]

    run(body())


# Batches of models with a fixed one


def test_a_model_of_batch_one_is_opened_for_any_batch(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING.replace("dims: -1", "dims: 2"))
    save_ir(source, negation(shape=(1, 2)))
    assert [a["y"].tolist() for a in answers(source, fp32([1, 2]), fp32([3, 4]))] == [[[-1, -2]], [[-3, -4]]]


def test_shapes_of_the_configuration_can_be_put_on_the_model(tmp_path: Path) -> None:
    source = write_config(tmp_path, BATCHING + parameter("RESHAPE_IO_LAYERS", "YES"))
    save_ir(source, negation(shape=(1, 2)))
    assert answers(source, fp32([1, 2, 3]))[0]["y"].tolist() == [[-1, -2, -3]]


def test_shapes_that_the_model_cannot_have_are_refused(tmp_path: Path) -> None:
    io = BATCHING.replace("dims: -1", "dims: 4")
    source = write_config(tmp_path, io + parameter("RESHAPE_IO_LAYERS", "YES"))
    save_ir(
        source,
        onnx_model(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            {"x": (TensorProto.FLOAT, (1, 3))},
            {"y": (TensorProto.FLOAT, (1, 3))},
            [numpy_helper.from_array(np.ones((1, 3), np.float32), "w")],
        ),
    )
    assert "its inputs cannot have the shapes {'x': [-1, 4]}" in refusal(source)


def test_a_fixed_batch_is_filled_up_or_smaller_ones_are_refused(tmp_path: Path) -> None:
    fixed = BATCHING.replace("dims: -1", "dims: 2") + parameter("SKIP_OV_DYNAMIC_BATCHSIZE", "YES")
    source = write_config(tmp_path, fixed + parameter("ENABLE_BATCH_PADDING", "YES"))
    save_ir(source, negation(shape=(1, 2)))
    assert [a["y"].tolist() for a in answers(source, fp32([1, 2]), fp32([3, 4]))] == [[[-1, -2]], [[-3, -4]]]
    source = write_config(tmp_path, fixed)
    with pytest.raises(BackendError, match="has batch size 1, the model takes 8 only"):
        answers(source, fp32([1, 2]))


# Compilation


def test_instances_share_one_compiled_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_config(tmp_path, BATCHING + "instance_group { count: 2 kind: KIND_CPU }")
    save_ir(source, negation())
    config = config_of(source)

    async def body() -> None:
        backend = OpenVinoBackend()
        with caplog.at_level(logging.INFO):
            instances = await asyncio.gather(*(backend.load(spec_of(source, config, index)) for index in range(2)))
        assert caplog.text.count("model 'm' version 1: openvino ") == 1
        assert "2 instances on one compiled model" in caplog.text
        assert len(backend._shared) == 1
        results = await asyncio.gather(*(each.execute([fp32([n])]) for n, each in enumerate(instances)))
        assert [arrays_of(result)[0]["y"].tolist() for result in results] == [[[0]], [[-1]]]
        await asyncio.gather(*(each.close() for each in instances))
        assert len(backend._shared) == 0

    run(body())


def test_a_stream_for_each_instance_and_all_cores_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "available_cores", lambda: 8)
    properties = plan(tmp_path, "instance_group { count: 3 kind: KIND_CPU }").properties
    assert properties == {
        "NUM_STREAMS": "3",
        "INFERENCE_NUM_THREADS": "8",
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": "NO",
    }


def test_defaults_for_the_cpu_are_not_imposed_on_other_devices(tmp_path: Path) -> None:
    made = plan(tmp_path, parameter("TARGET_DEVICE", "GPU") + parameter("CACHE_DIR", "/cache"))
    assert (made.device, made.properties) == ("GPU", {"CACHE_DIR": "/cache"})


def test_a_performance_hint_leaves_the_streams_to_openvino(tmp_path: Path) -> None:
    properties = plan(tmp_path, parameter("PERFORMANCE_HINT", "throughput")).properties
    assert properties["PERFORMANCE_HINT"] == "THROUGHPUT"
    assert "NUM_STREAMS" not in properties


def test_parameters_win_over_the_command_line(tmp_path: Path) -> None:
    made = plan(tmp_path, parameter("NUM_STREAMS", "1"), NUM_STREAMS="4", CACHE_DIR="/cache", unknown="1")
    assert made.properties["NUM_STREAMS"] == "1"
    assert made.properties["CACHE_DIR"] == "/cache"
    assert "unknown" not in made.properties


def test_names_of_older_releases_are_understood(tmp_path: Path) -> None:
    text = parameter("CPU_THREADS_NUM", "5") + parameter("CPU_THROUGHPUT_STREAMS", "auto")
    made = plan(tmp_path, text + parameter("ENFORCE_BF16", "YES"))
    assert made.properties == {
        "INFERENCE_NUM_THREADS": "5",
        "NUM_STREAMS": "AUTO",
        "INFERENCE_PRECISION_HINT": "bf16",
        "ENABLE_CPU_PINNING": "NO",
    }


def test_precision_is_fp32_unless_asked_for_less(tmp_path: Path) -> None:
    assert plan(tmp_path, parameter("HINT_BF16", "YES")).properties["INFERENCE_PRECISION_HINT"] == "bf16"
    given = plan(tmp_path, parameter("INFERENCE_PRECISION_HINT", "f16")).properties
    assert given["INFERENCE_PRECISION_HINT"] == "f16"
    mode = plan(tmp_path, parameter("EXECUTION_MODE_HINT", "PERFORMANCE")).properties
    assert "INFERENCE_PRECISION_HINT" not in mode


def test_properties_reach_openvino(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = parameter("NUM_STREAMS", "2") + parameter("INFERENCE_NUM_THREADS", "2")
    source = write_config(tmp_path, BATCHING + text)
    save_ir(source, negation())
    with caplog.at_level(logging.INFO):
        answers(source, fp32([1]))
    assert "CPU f32, 1 instance on one compiled model, 2 stream(s) with 2 thread(s) in all" in caplog.text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (parameter("PERFORMANCE_HINT", "FAST"), "'PERFORMANCE_HINT': expected LATENCY or THROUGHPUT, got 'FAST'"),
        (parameter("NUM_STREAMS", "many"), "openvino error: "),
        (parameter("RESHAPE_IO_LAYERS", "maybe"), "'RESHAPE_IO_LAYERS': failed to convert 'maybe' to boolean"),
        (parameter("TARGET_DEVICE", "NO_SUCH"), "openvino error: "),
        (parameter("CPU_EXTENSION_PATH", "/no/such/library.so"), "/no/such/library.so"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, text: str, error: str) -> None:
    source = write_config(tmp_path, BATCHING + text)
    save_ir(source, negation())
    assert error in refusal(source)


def test_what_was_compiled_is_kept_in_the_cache_directory(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    source = write_config(tmp_path, BATCHING + parameter("CACHE_DIR", str(cache)))
    save_ir(source, negation())
    assert answers(source, fp32([1]))[0]["y"].tolist() == [[-1]]
    kept = list(cache.rglob("*.blob"))
    assert kept
    assert answers(source, fp32([2]))[0]["y"].tolist() == [[-2]]
    assert list(cache.rglob("*.blob")) == kept


def test_a_gpu_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_config(tmp_path, BATCHING)
    save_ir(source, negation())

    async def body() -> None:
        async with loaded(OpenVinoBackend(), source, kind="GPU") as instance:
            assert arrays_of(await instance.execute([fp32([1])]))[0]["y"].tolist() == [[-1]]

    run(body())
    assert "model 'm' runs on the CPU: OpenVINO does not use NVIDIA GPUs" in caplog.text
