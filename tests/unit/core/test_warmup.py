"""Warm-up requests: made from the configuration, executed by instances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from conch.backend_api import Instance, InstanceSpec, ModelSource
from conch.config.schema import ModelInput, WarmUp, WarmUpInput
from conch.core.metrics import CustomMetrics
from conch.core.stats import ModelStats
from conch.core.warmup import read_samples, warm_up
from conch.errors import ConchError, InternalError, InvalidArgumentError
from conch.tensor import DataType
from conch.testing import EchoBackend, FailingBackend, FakeClock
from tests.unit.core.conftest import make_config, run

ZEROS = WarmUpInput("INPUT0", DataType.FP32, (2,), "zero_data")


def config_with(*settings: WarmUp, **fields: Any) -> Any:
    return msgspec.structs.replace(make_config(**fields), model_warmup=settings)


def make_instance(backend: Any) -> Instance:
    source = ModelSource("echo", 1, Path("/nowhere"), {})
    return backend.instance_class(InstanceSpec(source, make_config(), "echo_0_0", "CPU", 0, CustomMetrics()))


def test_a_sample_is_executed_as_one_batch_as_often_as_it_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "conch")

    async def work() -> None:
        samples = read_samples(config_with(WarmUp("three", 3, 2, (ZEROS,))), tmp_path, 1)
        instance, stats = make_instance(EchoBackend), ModelStats()
        await warm_up(instance, "echo_0_0", samples, stats, FakeClock())
        assert [len(batch) for batch in instance.batches] == [3, 3]  # type: ignore[attr-defined]
        assert instance.batches[0][0].inputs[0].as_numpy().tolist() == [[0.0, 0.0]]  # type: ignore[attr-defined]
        assert (stats.inference_count, stats.execution_count) == (6, 2)
        assert "echo_0_0 is running warmup sample 'three'" in caplog.messages

    run(work())


def test_a_sample_of_no_requests_is_not_executed(tmp_path: Path) -> None:
    assert read_samples(config_with(WarmUp("none", 0, 1, (ZEROS,))), tmp_path, 1) == []


def test_data_comes_from_files_and_at_random(tmp_path: Path) -> None:
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "numbers").write_bytes(np.array([1.5, 2.5], np.float32).tobytes() + b"more")
    inputs = tuple(ModelInput(name, datatype, (2,)) for name, datatype in (
        ("INPUT0", DataType.FP32), ("WORDS", DataType.BYTES), ("FLAGS", DataType.BOOL)
    ))  # fmt: skip
    given = (
        WarmUpInput("INPUT0", DataType.FP32, (2,), "input_data_file", "numbers"),
        WarmUpInput("WORDS", DataType.BYTES, (2,), "random_data"),
        WarmUpInput("FLAGS", DataType.BOOL, (2,), "random_data"),
    )
    (sample,) = read_samples(config_with(WarmUp("files", 1, 1, given), inputs=inputs), tmp_path, 1)
    request = sample.requests[0]
    assert request.input("INPUT0").as_numpy().tolist() == [[1.5, 2.5]]
    assert all(len(word) == 8 for word in request.input("WORDS").as_numpy().reshape(-1))
    assert set(bytes(request.input("FLAGS").data)) <= {0, 1}


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ((), InvalidArgumentError, "missing required input"),
        ((msgspec.structs.replace(ZEROS, data_type=DataType.INT32),), InvalidArgumentError, "data-type is 'INT32'"),
        ((msgspec.structs.replace(ZEROS, dims=(2, 2)),), InvalidArgumentError, "unexpected shape"),
        ((msgspec.structs.replace(ZEROS, dims=(-1,)),), InvalidArgumentError, "all variable-size dimensions"),
        ((msgspec.structs.replace(ZEROS, source=""),), InvalidArgumentError, "to have input_data_type set"),
        (
            (msgspec.structs.replace(ZEROS, source="input_data_file", data_file="nowhere"),),
            InternalError,
            "failed to open text file for read .*nowhere",
        ),
        (
            (msgspec.structs.replace(ZEROS, source="input_data_file", data_file="short"),),
            InvalidArgumentError,
            "expects 8 bytes, but the data provided from short only has 2 bytes",
        ),
        (
            (msgspec.structs.replace(ZEROS, source="input_data_file", data_file="../../secret"),),
            InvalidArgumentError,
            "must be a file in the model's warmup directory",
        ),
    ],
)
def test_a_sample_that_does_not_fit_its_model_is_refused(
    given: tuple[WarmUpInput, ...], error: type[ConchError], text: str, tmp_path: Path
) -> None:
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "short").write_bytes(b"ab")
    with pytest.raises(error, match=text):
        read_samples(config_with(WarmUp("sample", 1, 1, given)), tmp_path, 1)


def test_a_sample_larger_than_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="batch size 9 for 'echo', max allowed is 8"):
        read_samples(config_with(WarmUp("sample", 9, 1, (ZEROS,))), tmp_path, 1)


def test_a_sample_that_the_model_fails_on_fails_the_load(tmp_path: Path) -> None:
    async def work() -> None:
        samples = read_samples(config_with(WarmUp("sample", 1, 1, (ZEROS,))), tmp_path, 1)
        with pytest.raises(InvalidArgumentError, match="failed to run warmup sample 'sample': Stub process"):
            await warm_up(make_instance(FailingBackend), "echo_0_0", samples, ModelStats(), FakeClock())

    run(work())
