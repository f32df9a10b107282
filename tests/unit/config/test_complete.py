from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from conch.config.complete import (
    PlacedInstance,
    load_config,
    merge_auto_complete,
    normalize,
    resolve_instances,
)
from conch.config.json_format import to_dict
from conch.config.pbtxt import from_message, parse
from conch.config.proto import ModelConfigMessage
from conch.config.schema import ModelConfig
from conch.errors import InvalidArgumentError, NotFoundError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "m"
    (path / "1").mkdir(parents=True)
    return path


def _normalized(text: str, directory: Path, gpu_count: int = 0) -> ModelConfigMessage:
    return normalize(parse(text), directory, gpu_count)


def _config(text: str, directory: Path, gpu_count: int = 0) -> ModelConfig:
    return from_message(_normalized('backend: "python" ' + text, directory, gpu_count))


def test_missing_config_pbtxt_is_an_empty_message(directory: Path) -> None:
    assert load_config(directory) == parse("")


def test_missing_config_pbtxt_is_refused_where_nothing_completes_it(directory: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"failed to open text file for read .*/config.pbtxt: No such file"):
        load_config(directory, optional=False)
    (directory / "configs").mkdir()
    (directory / "configs" / "big.pbtxt").write_text("max_batch_size: 64")
    assert load_config(directory, "big", optional=False).max_batch_size == 64


def test_named_configuration_is_preferred_to_config_pbtxt(directory: Path) -> None:
    (directory / "configs").mkdir()
    (directory / "configs" / "big.pbtxt").write_text("max_batch_size: 64")
    (directory / "config.pbtxt").write_text("max_batch_size: 1")
    assert load_config(directory, "big").max_batch_size == 64
    assert load_config(directory, "other").max_batch_size == 1
    assert load_config(directory).max_batch_size == 1


def test_missing_model_directory_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nope' does not exist"):
        load_config(tmp_path / "nope")


def test_configuration_that_is_no_text_is_refused_by_file(directory: Path) -> None:
    (directory / "config.pbtxt").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgumentError, match=r"failed to open text file for read .*config\.pbtxt"):
        load_config(directory)


@pytest.mark.parametrize(
    ("file", "backend", "platform"),
    [
        ("model.py", "python", ""),
        ("model.onnx", "onnxruntime", "onnxruntime_onnx"),
        ("model.pt", "pytorch", "pytorch_libtorch"),
        ("model.xml", "openvino", ""),
        ("model.plan", "tensorrt", "tensorrt_plan"),
    ],
)
def test_backend_is_deduced_from_the_file_of_the_first_version(
    directory: Path, file: str, backend: str, platform: str
) -> None:
    (directory / "1" / file).touch()
    message = _normalized("", directory)
    assert (message.name, message.backend, message.platform) == ("m", backend, platform)
    assert message.default_model_filename == file


@pytest.mark.parametrize(
    ("text", "backend", "platform", "filename"),
    [
        ('platform: "onnxruntime_onnx"', "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ('platform: "pytorch_libtorch"', "pytorch", "pytorch_libtorch", "model.pt"),
        ('backend: "onnxruntime"', "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ('backend: "python"', "python", "", "model.py"),
        ('backend: "python" platform: "mine"', "python", "mine", "model.py"),
        ('backend: "python" default_model_filename: "my.py"', "python", "", "my.py"),
        ('default_model_filename: "model.py"', "python", "", "model.py"),
        ('backend: "custom"', "custom", "", ""),
        ('platform: "nope"', "", "nope", ""),
    ],
)
def test_backend_platform_and_filename_complete_each_other(
    directory: Path, text: str, backend: str, platform: str, filename: str
) -> None:
    message = _normalized(text, directory)
    assert (message.backend, message.platform, message.default_model_filename) == (backend, platform, filename)


def test_directory_without_a_known_file_says_what_to_add(directory: Path) -> None:
    (directory / "1" / "weights.bin").touch()
    with pytest.raises(InvalidArgumentError) as caught:
        _normalized("", directory)
    assert "Could not determine backend for model 'm' with no backend in model configuration" in str(caught.value)
    assert "'model.py'" in str(caught.value)


def test_normalizing_leaves_the_given_message_alone(directory: Path) -> None:
    message = parse('backend: "python"')
    normalize(message, directory)
    assert message == parse('backend: "python"')


def test_normalizing_twice_changes_nothing(directory: Path) -> None:
    once = _normalized('backend: "python" max_batch_size: 4 dynamic_batching { }', directory)
    assert normalize(once, directory) == once


@pytest.mark.parametrize(
    ("text", "gpu_count", "kind", "gpus"),
    [
        ("", 0, "CPU", ()),
        ("", 2, "GPU", (0, 1)),
        ("instance_group { kind: KIND_AUTO gpus: 1 }", 2, "GPU", (1,)),
        ("instance_group { kind: KIND_AUTO gpus: 5 }", 2, "CPU", ()),
        ("instance_group { kind: KIND_CPU }", 2, "CPU", ()),
        ("instance_group { kind: KIND_GPU }", 2, "GPU", (0, 1)),
    ],
)
def test_kind_auto_is_decided_by_the_gpus_present(
    directory: Path, text: str, gpu_count: int, kind: str, gpus: tuple[int, ...]
) -> None:
    group = _config(text, directory, gpu_count).instance_group[0]
    assert (group.kind, group.gpus, group.count) == (kind, gpus, 1)


def test_onnx_models_get_two_instances_on_a_cpu(directory: Path) -> None:
    assert _normalized('backend: "onnxruntime"', directory).instance_group[0].count == 2
    assert _normalized('backend: "onnxruntime"', directory, 1).instance_group[0].count == 1


def test_instances_are_named_by_group_and_index(directory: Path) -> None:
    config = _config('instance_group [ { count: 2 }, { name: "x" kind: KIND_MODEL } ]', directory)
    assert resolve_instances(config, 0) == [
        PlacedInstance("m_0_0", "CPU", 0),
        PlacedInstance("m_0_1", "CPU", 0),
        PlacedInstance("x_0", "MODEL", 0),
    ]


def test_model_without_instance_groups_has_one_instance(directory: Path) -> None:
    assert resolve_instances(_config("", directory), 0) == [PlacedInstance("m_0", "CPU", 0)]


def test_gpu_groups_have_count_instances_on_each_gpu(directory: Path) -> None:
    config = _config("instance_group { kind: KIND_GPU count: 2 }", directory, 2)
    assert resolve_instances(config, 2) == [
        PlacedInstance("m_0_0", "GPU", 0),
        PlacedInstance("m_0_0", "GPU", 1),
        PlacedInstance("m_0_1", "GPU", 0),
        PlacedInstance("m_0_1", "GPU", 1),
    ]


def test_gpu_group_without_a_gpu_runs_on_the_cpu_with_one_warning(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _config("instance_group { kind: KIND_GPU count: 2 gpus: 0 }", directory)
    with caplog.at_level(logging.WARNING):
        placed = resolve_instances(config, 0)
    assert [instance.kind for instance in placed] == ["CPU", "CPU"]
    assert [record.getMessage() for record in caplog.records] == [
        "instance group m_0 of model m has kind KIND_GPU but no GPUs are available: it runs on the CPU"
    ]


def test_gpu_that_is_not_there_is_refused(directory: Path) -> None:
    config = _config("instance_group { kind: KIND_GPU gpus: [ 0, 3 ] }", directory, 2)
    with pytest.raises(InvalidArgumentError, match=r"unsupported gpu id 3\. GPUs of this machine are: 0, 1"):
        resolve_instances(config, 2)


def test_passive_groups_have_no_instances(directory: Path) -> None:
    config = _config('instance_group [ { passive: true }, { name: "a" } ]', directory)
    assert [instance.name for instance in resolve_instances(config, 0)] == ["a_0"]


def _answer(message: ModelConfigMessage, **changes: Any) -> dict[str, Any]:
    return to_dict(message) | changes


TENSOR = {"name": "A", "data_type": "TYPE_FP32", "dims": [4], "optional": True}


def test_answer_of_auto_complete_config_is_merged(directory: Path) -> None:
    message = _normalized('backend: "python"', directory)
    answer = _answer(
        message,
        max_batch_size=8,
        input=[TENSOR],
        output=[{"name": "B", "data_type": "TYPE_STRING", "dims": [-1]}],
        dynamic_batching={},
        model_transaction_policy={"decoupled": False},
    )
    merged = merge_auto_complete(message, answer)
    assert merged.max_batch_size == 8
    assert to_dict(merged)["input"][0]["optional"] is True
    assert merged.output[0].dims == [-1]
    assert merged.dynamic_batching.preferred_batch_size == [8]
    assert merged.HasField("model_transaction_policy")
    assert message.max_batch_size == 0


def test_scheduler_settings_of_the_configuration_win_over_the_answer(directory: Path) -> None:
    text = 'backend: "python" max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 9 }'
    message = _normalized(text, directory)
    merged = merge_auto_complete(message, _answer(message, dynamic_batching={}))
    assert merged.dynamic_batching.max_queue_delay_microseconds == 9


def test_other_fields_of_the_answer_are_not_taken_over(directory: Path) -> None:
    message = _normalized('backend: "python"', directory)
    merged = merge_auto_complete(message, _answer(message, name="other", instance_group=[]))
    assert merged == message


def test_answer_must_not_drop_the_scheduler(directory: Path) -> None:
    message = _normalized('backend: "python" max_batch_size: 4 dynamic_batching { }', directory)
    answer = _answer(message)
    del answer["dynamic_batching"]
    with pytest.raises(
        InvalidArgumentError, match=r"must not change the scheduler.*'dynamic_batching', the answer 'None'"
    ):
        merge_auto_complete(message, answer)


@pytest.mark.parametrize("change", [{"max_batch_size": "many"}, {"nope": 1}, {"input": object()}])
def test_answer_that_is_no_configuration_is_refused_by_model(directory: Path, change: dict[str, Any]) -> None:
    message = _normalized('backend: "python"', directory)
    with pytest.raises(InvalidArgumentError, match="of model 'm' returned an invalid configuration"):
        merge_auto_complete(message, _answer(message, **change))
