from __future__ import annotations

import asyncio
import io
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from conch.backends.pytorch.backend import PyTorchBackend
from conch.backends.pytorch.naming import input_positions, output_positions
from conch.backends.pytorch.options import plan_run
from conch.backends.pytorch.program import ScriptProgram
from conch.errors import BackendError, ConchError, InvalidArgumentError
from conch.tensor import DataType
from tests.unit.backends.engines import torch_models
from tests.unit.backends.engines.bench import (
    arrays_of,
    config_of,
    fp32,
    loaded,
    request,
    run,
    spec_of,
    write_config,
)

HEAD = 'backend: "pytorch"\n'


def tensors(direction: str, *names: str, kind: str = "TYPE_FP32", dims: str = "-1") -> str:
    return "".join(f'{direction} {{ name: "{name}" data_type: {kind} dims: {dims} }} ' for name in names)


def batching(inputs: Sequence[str], outputs: Sequence[str]) -> str:
    return HEAD + "max_batch_size: 8 " + tensors("input", *inputs) + tensors("output", *outputs)


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }} '


def save_script(source: Any, module: torch.nn.Module, filename: str = "model.pt") -> None:
    torch.jit.script(module).save(source.version_directory / filename)


def save_exported(source: Any, module: torch.nn.Module, arguments: tuple[Any, ...], **more: Any) -> None:
    torch.export.save(torch.export.export(module, arguments, **more), source.version_directory / "model.pt2")


def refusal(source: Any) -> str:
    async def body() -> None:
        async with loaded(PyTorchBackend(), source):
            raise AssertionError("it loaded")

    with pytest.raises(ConchError) as caught:
        run(body())
    return caught.value.message


def answers(source: Any, *requests: Any) -> list[dict[str, np.ndarray]]:
    """What the model answers to one batch."""
    found: list[dict[str, np.ndarray]] = []

    async def body() -> None:
        async with loaded(PyTorchBackend(), source) as instance:
            found.extend(arrays_of(await instance.execute(requests)))

    run(body())
    return found


def two(first: float, second: float, names: tuple[str, str]) -> Any:
    values = {
        name: (DataType.FP32, np.array([[v]], np.float32)) for name, v in zip(names, (first, second), strict=True)
    }
    return request(values)


# Which tensor is which


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (("left", "right"), ("OUTPUT__0", "OUTPUT__1")),
        (("right", "left"), ("OUTPUT__0", "OUTPUT__1")),
        (("INPUT__1", "INPUT__0"), ("OUTPUT__0", "OUTPUT__1")),
        (("a", "b"), ("sum", "difference")),
    ],
    ids=["arguments", "arguments in another order", "numbers", "order of the configuration"],
)
def test_tensors_are_found_by_tritons_conventions(
    tmp_path: Path, inputs: tuple[str, str], outputs: tuple[str, str]
) -> None:
    source = write_config(tmp_path, batching(inputs, outputs))
    save_script(source, torch_models.SumAndDifference())
    first, second = (10, 3) if inputs in (("left", "right"), ("a", "b")) else (3, 10)
    (answer,) = answers(source, two(first, second, inputs))
    assert [answer[name].tolist() for name in outputs] == [[[13]], [[7]]]


def test_outputs_by_number_may_be_some_and_in_any_order(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["left", "right"], ["y__1"]))
    save_script(source, torch_models.SumAndDifference())
    (answer,) = answers(source, two(10, 3, ("left", "right")))
    assert {name: array.tolist() for name, array in answer.items()} == {"y__1": [[7]]}


def test_an_output_that_the_model_does_not_make_is_named(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["left", "right"], ["OUTPUT__2"]))
    save_script(source, torch_models.SumAndDifference())
    with pytest.raises(BackendError) as caught:
        answers(source, two(1, 2, ("left", "right")))
    assert caught.value.message == (
        "The output OUTPUT__2 in the model configuration refers to an output index which doesn't exist. This model has "
        "2 outputs"
    )


@pytest.mark.parametrize("names", [("INPUT__0", "INPUT__2"), ("INPUT__1", "INPUT__1x__1")])
def test_inputs_that_are_no_arguments_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"stands for argument . of forward, which takes 2: left, right"):
        input_positions("m", names, ("left", "right"))


def test_falling_back_to_order_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert input_positions("m", ("p", "INPUT__0"), ("left", "right")) == [0, 1]
    assert "Falling back to enforcing strict ordering" in caplog.text
    assert output_positions("m", ("y__3", "z__0")) == [3, 0]


def test_a_dictionary_is_filled_under_the_inputs_own_names(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["a", "b"], ["OUTPUT__0"]))
    save_script(source, torch_models.OfDictionary())
    assert answers(source, two(10, 3, ("a", "b")))[0]["OUTPUT__0"].tolist() == [[7]]


def test_results_in_a_dictionary_are_found_by_name(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["x"], ["negative", "double"]))
    save_script(source, torch_models.ToDictionary())
    (answer,) = answers(source, fp32([3]))
    assert (answer["negative"].tolist(), answer["double"].tolist()) == ([[-3]], [[6]])


# Execution


def test_requests_share_a_batch(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["x"], ["y"]))
    save_script(source, torch_models.Negation())
    found = answers(source, fp32([1], [2]), fp32([3]))
    assert [answer["y"].tolist() for answer in found] == [[[-1], [-2]], [[-3]]]


@pytest.mark.parametrize("name", [d.value for d in DataType if d not in (DataType.BF16, DataType.BYTES)])
def test_datatypes_are_echoed(tmp_path: Path, name: str) -> None:
    datatype = DataType(name)
    io_text = tensors("input", "x", kind=datatype.config_name) + tensors("output", "y", kind=datatype.config_name)
    source = write_config(tmp_path, HEAD + "max_batch_size: 8 " + io_text)
    save_script(source, torch_models.Echo())
    array = np.array([[0, 1, 1]]).astype(datatype.dtype)
    (answer,) = answers(source, request({"x": (datatype, array)}))
    assert answer["y"].dtype == datatype.dtype
    assert answer["y"].tolist() == array.tolist()


def test_bf16_travels_as_its_bits(tmp_path: Path) -> None:
    io_text = tensors("input", "x", kind="TYPE_BF16") + tensors("output", "y", kind="TYPE_BF16")
    source = write_config(tmp_path, HEAD + "max_batch_size: 8 " + io_text)
    save_script(source, torch_models.Negation())
    bits = np.array([[0x3F80, 0x4000]], np.uint16)  # 1 and 2
    assert answers(source, request({"x": (DataType.BF16, bits)}))[0]["y"].tolist() == [[0xBF80, 0xC000]]


def test_texts_are_a_list_of_strings(tmp_path: Path) -> None:
    io_text = tensors("input", "x", kind="TYPE_STRING", dims="1") + tensors("output", "y", kind="TYPE_STRING", dims="1")
    source = write_config(
        tmp_path, HEAD + "max_batch_size: 8 " + io_text.replace("dims: 1", "dims: 1 reshape { shape: [ ] }")
    )
    save_script(source, torch_models.Shout())
    elements = np.array(["für", "b"], dtype=object)
    assert [e.decode() for e in answers(source, request({"x": (DataType.BYTES, elements)}))[0]["y"]] == ["für!", "b!"]
    with pytest.raises(BackendError, match="an element of input 'x' is no UTF-8 text"):
        answers(source, request({"x": (DataType.BYTES, np.array([b"\xff"], dtype=object))}))
    with pytest.raises(BackendError, match="strings are given to PyTorch models as a list, which has one dimension"):
        answers(source, request({"x": (DataType.BYTES, np.array([["a", "b"]] * 2, dtype=object))}))


def test_an_error_of_the_model_fails_the_batch_and_the_next_one_runs(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["x"], ["y"]))
    save_script(source, torch_models.AddThree())

    async def body() -> None:
        async with loaded(PyTorchBackend(), source) as instance:
            with pytest.raises(BackendError) as caught:
                await instance.execute([fp32([1, 2])])
            assert caught.value.message == (
                "PyTorch execute failure: RuntimeError: The size of tensor a (2) must match the size of tensor b (3) "
                "at non-singleton dimension 1"
            )
            assert arrays_of(await instance.execute([fp32([1, 2, 3])]))[0]["y"].tolist() == [[2, 3, 4]]

    run(body())


def test_a_result_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["x"], ["OUTPUT__1"]))
    save_script(source, torch_models.ToNumber())
    with pytest.raises(BackendError, match=r"output 'OUTPUT__1' at index 1 must be of type Tensor or List\[str\]"):
        answers(source, fp32([1]))


def test_a_model_that_writes_into_its_input_does_not_change_the_request(tmp_path: Path) -> None:
    """The request's memory belongs to others too: steps of an ensemble, the shared memory of a client."""
    source = write_config(tmp_path, batching(["x"], ["y"]))
    save_script(source, torch_models.WriteIntoInput())
    asked = fp32([1, 2])
    before = bytes(asked.inputs[0].data)
    assert answers(source, asked)[0]["y"].tolist() == [[2, 3]]
    assert bytes(asked.inputs[0].data) == before


def test_a_model_that_only_reads_gets_the_requests_own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    from_numpy = torch.from_numpy

    def spy(array: np.ndarray) -> torch.Tensor:
        seen.append(array.__array_interface__["data"][0])
        return from_numpy(array)

    monkeypatch.setattr(torch, "from_numpy", spy)
    source = write_config(tmp_path, batching(["x"], ["y"]))
    save_script(source, torch_models.Negation())
    asked = fp32([1, 2])
    answers(source, asked)
    assert seen == [asked.inputs[0].as_numpy().__array_interface__["data"][0]]


def test_scalars_have_dimensions_of_one(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD + tensors("input", "x") + tensors("output", "y", dims="1"))
    save_script(source, torch_models.Total())
    asked = request({"x": (DataType.FP32, np.array([1, 2], np.float32))})
    assert answers(source, asked)[0]["y"].tolist() == [3]


# torch.export


def test_an_exported_program_tells_its_own_configuration(tmp_path: Path) -> None:
    source = write_config(tmp_path, "")
    batch = torch.export.Dim("batch", min=1, max=64)
    save_exported(
        source,
        torch_models.Exported(),
        (torch.zeros(2, 3),),
        kwargs={"mask": torch.zeros(2, 3), "more": {"bias": torch.zeros(2, 1)}},
        dynamic_shapes={"ids": {0: batch}, "mask": {0: batch}, "more": {"bias": {0: batch}}},
    )
    config = asyncio.run(PyTorchBackend().complete_config(source, config_of(source)))
    assert (config.backend, config.platform) == ("pytorch", "pytorch_libtorch")
    assert (config.default_model_filename, config.max_batch_size) == ("model.pt2", 4)
    assert [(t.name, t.dims) for t in config.input] == [("ids", (3,)), ("mask", (3,)), ("bias", (1,))]
    assert [(t.name, t.dims) for t in config.output] == [("hidden", (3,)), ("total", (1,))]
    assert config.dynamic_batching is not None

    def ask(value: float) -> Any:
        def of(size: int, v: float) -> Any:
            return (DataType.FP32, np.full((1, size), v, np.float32))

        return request({"ids": of(3, value), "mask": of(3, 2), "bias": of(1, 5)})

    found = answers(source, ask(1), ask(2))
    assert [answer["hidden"].tolist() for answer in found] == [[[7, 7, 7]], [[9, 9, 9]]]
    assert [answer["total"].tolist() for answer in found] == [[[3]], [[6]]]


def test_an_exported_program_is_checked_against_the_configuration(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["x"], ["OUTPUT__0"]).replace("dims: -1", "dims: 4"))
    batch = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    save_exported(source, torch_models.Negation(), (torch.zeros(2, 3),), dynamic_shapes=batch)
    assert "tensor 'x': the model expects 2 dimensions (shape [-1,3])" in refusal(source)


def test_a_guard_of_an_exported_program_is_an_error_of_the_batch(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["INPUT__0"], ["OUTPUT__0"]))
    batch = {"x": {0: torch.export.Dim("batch", min=1, max=2)}}
    save_exported(source, torch_models.Negation(), (torch.zeros(2, 3),), dynamic_shapes=batch)
    with pytest.raises(BackendError, match="PyTorch execute failure: Guard failed: "):
        answers(source, fp32(*[[1, 2, 3]] * 5, name="INPUT__0"))


# Files


def test_torchscript_does_not_tell_its_tensors(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    save_script(source, torch_models.Negation())
    assert refusal(source).startswith("unable to autofill for 'm': a TorchScript file does not tell")


class Evil:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("form", ["state dict", "module", "pickle", "legacy", "garbage", "empty"])
def test_pickles_and_other_files_are_refused_and_not_run(tmp_path: Path, form: str) -> None:
    source = write_config(tmp_path, batching(["x"], ["y"]))
    path, trap = source.version_directory / "model.pt", tmp_path / "trap"
    if form == "state dict":
        torch.save({"weight": torch.zeros(2), "trap": Evil(trap)}, path)
    elif form == "module":
        torch.save(torch.nn.Linear(2, 2), path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(Evil(trap)))
    elif form == "legacy":
        buffer = io.BytesIO()
        torch.save(Evil(trap), buffer, _use_new_zipfile_serialization=False)
        path.write_bytes(buffer.getvalue())
    else:
        path.write_bytes(b"garbage" if form == "garbage" else b"")
    text = refusal(source)
    assert text.startswith("expected a TorchScript file or a file of torch.export.save, found ")
    assert str(path) in text
    assert not trap.exists()


def test_a_missing_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["x"], ["y"]))
    path = source.version_directory / "model.pt"
    assert refusal(source) == f"unable to find '{path}'"
    save_script(source, torch_models.Negation())
    import zipfile

    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if not name.endswith("data.pkl")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
    assert refusal(source).startswith(f"failed to load model file '{path}': ")


def test_the_file_may_have_another_name(tmp_path: Path) -> None:
    source = write_config(tmp_path, batching(["x"], ["y"]) + 'default_model_filename: "other.pt"')
    save_script(source, torch_models.Negation(), "other.pt")
    assert answers(source, fp32([1]))[0]["y"].tolist() == [[-1]]


def test_torch_that_is_not_installed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert "try: pip install 'conch[pytorch]'" in refusal(write_config(tmp_path, batching(["x"], ["y"])))


# Options


def plan(tmp_path: Path, text: str) -> Any:
    return plan_run(config_of(write_config(tmp_path, batching(["x"], ["y"]) + text)), "cpu")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("", "optimized", True),
        (parameter("DISABLE_OPTIMIZED_EXECUTION", "true"), "optimized", False),
        ("", "inference_mode", True),
        (parameter("INFERENCE_MODE", "false"), "inference_mode", False),
        ("", "share_weights", False),
        (parameter("ENABLE_WEIGHT_SHARING", "true"), "share_weights", True),
        (parameter("ENABLE_CACHE_CLEANING", "true"), "clean_cache", True),
        ("", "jit_profiling", None),
        (parameter("ENABLE_JIT_PROFILING", "false"), "jit_profiling", False),
        (parameter("ENABLE_JIT_EXECUTOR", "false"), "jit_executor", False),
        (parameter("ENABLE_TENSOR_FUSER", "true"), "tensor_fuser", True),
        (parameter("INTRA_OP_THREAD_COUNT", "3"), "intra_op_threads", 3),
        (parameter("INTER_OP_THREAD_COUNT", "2"), "inter_op_threads", 2),
        (parameter("DISABLE_CUDNN", "true"), "cudnn", False),
    ],
)
def test_parameters_are_read(tmp_path: Path, text: str, field: str, value: object) -> None:
    assert getattr(plan(tmp_path, text), field) == value


@pytest.mark.parametrize(("value", "expected"), [("true", [[1]]), ("false", [[0]])])
def test_inference_mode_is_what_the_model_runs_in(tmp_path: Path, value: str, expected: list[list[float]]) -> None:
    source = write_config(tmp_path, batching(["x"], ["y"]) + parameter("INFERENCE_MODE", value))
    save_script(source, torch_models.IsInference())
    assert answers(source, fp32([5]))[0]["y"].tolist() == expected


def test_threads_are_those_of_the_instance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = torch.get_num_threads(), []
    call = ScriptProgram.call

    def spy(self: ScriptProgram, values: Any) -> Any:
        seen.append(torch.get_num_threads())
        return call(self, values)

    monkeypatch.setattr(ScriptProgram, "call", spy)
    source = write_config(tmp_path, batching(["x"], ["y"]) + parameter("INTRA_OP_THREAD_COUNT", "3"))
    save_script(source, torch_models.Negation())
    try:
        with caplog.at_level(logging.INFO):
            answers(source, fp32([0]))
        assert seen == [3]
        assert "(TorchScript) on cpu, 1 instance x 3 thread(s)" in caplog.text
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("text", "copies"), [("", 2), (parameter("ENABLE_WEIGHT_SHARING", "true"), 1)])
def test_instances_have_a_copy_each_unless_they_share(tmp_path: Path, text: str, copies: int) -> None:
    source = write_config(tmp_path, batching(["x"], ["y"]) + "instance_group { count: 2 kind: KIND_CPU }" + text)
    save_script(source, torch_models.Negation())
    config = config_of(source)

    async def body() -> None:
        backend = PyTorchBackend()
        instances = await asyncio.gather(*(backend.load(spec_of(source, config, index)) for index in range(2)))
        assert len(backend._shared) == copies
        results = await asyncio.gather(*(each.execute([fp32([n])]) for n, each in enumerate(instances)))
        assert [arrays_of(result)[0]["y"].tolist() for result in results] == [[[0]], [[-1]]]
        await asyncio.gather(*(each.close() for each in instances))
        assert len(backend._shared) == 0

    run(body())


def test_a_gpu_that_torch_cannot_use_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    source = write_config(tmp_path, batching(["x"], ["y"]))
    save_script(source, torch_models.Negation())

    async def body() -> None:
        async with loaded(PyTorchBackend(), source, kind="GPU") as instance:
            assert arrays_of(await instance.execute([fp32([1])]))[0]["y"].tolist() == [[-1]]

    run(body())
    assert "instance 'm_0_0' runs on the CPU: it is of KIND_GPU" in caplog.text


def test_the_default_batch_size_comes_from_the_command_line(tmp_path: Path) -> None:
    source = write_config(tmp_path, HEAD)
    batch = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    save_exported(source, torch_models.Negation(), (torch.zeros(2, 3),), dynamic_shapes=batch)
    source = msgspec.structs.replace(source, settings={"default-max-batch-size": "16"})
    assert asyncio.run(PyTorchBackend().complete_config(source, config_of(source))).max_batch_size == 16
