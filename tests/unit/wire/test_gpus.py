"""GPUs as the driver tells of them."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from conch.wire import gpus as module
from conch.wire.gpus import GpuReading, Gpus, open_gpus
from tests.unit.wire.fake_nvml import FakeNvml

_ALL = ("GPU-a1", "GPU-b2", "GPU-b3")


def with_driver(monkeypatch: pytest.MonkeyPatch, directory: Path, nvml: object) -> None:
    """A machine with a driver, and `nvml` as the package that asks it; None for a package that is not installed."""
    monkeypatch.setattr(module, "_DRIVER", directory)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)


def test_a_gpu_is_read_in_the_units_of_the_page() -> None:
    nvml = FakeNvml("GPU-a1")
    gpus = Gpus(nvml)
    nvml.energy_mj += 2_500
    expected = [GpuReading("GPU-a1", 0.4, 80 << 30, 3 << 30, 123.456, 700.0, 2.5)]
    assert gpus.read() == expected
    assert asyncio.run(gpus.read_aside()) == expected


def test_what_a_gpu_does_not_tell_is_left_out_and_the_rest_told() -> None:
    refused = ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTotalEnergyConsumption")
    (reading,) = Gpus(FakeNvml("GPU-a1", refused=refused)).read()
    assert (reading.utilization, reading.energy_j) == (None, None)
    assert (reading.memory_used_bytes, reading.power_w) == (3 << 30, 123.456)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["GPU-a1", "GPU-b2", "GPU-b3"]),
        ("", []),
        ("-1", []),
        ("2,0", ["GPU-b3", "GPU-a1"]),
        ("1,7,0", ["GPU-b2"]),
        ("GPU-b3, GPU-a", ["GPU-b3", "GPU-a1"]),
        ("GPU-b", []),
        ("MIG-1,0", []),
        ("0,0", ["GPU-a1"]),
    ],
)
def test_only_visible_gpus_are_read(visible: str | None, expected: list[str]) -> None:
    assert [reading.uuid for reading in Gpus(FakeNvml(*_ALL), visible).read()] == expected


def test_opening_initialises_the_driver_and_minds_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvml = FakeNvml(*_ALL)
    with_driver(monkeypatch, tmp_path, nvml)
    opened = open_gpus({"CUDA_VISIBLE_DEVICES": "1"})
    assert opened is not None
    assert [reading.uuid for reading in opened.read()] == ["GPU-b2"]
    assert nvml.initialised == 1
    assert open_gpus({"CUDA_VISIBLE_DEVICES": ""}) is None


def test_without_a_driver_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvml = FakeNvml(*_ALL)
    with_driver(monkeypatch, tmp_path / "none", nvml)
    assert open_gpus({}) is None
    assert nvml.initialised == 0


def test_a_missing_package_is_told_where_there_is_a_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        with_driver(monkeypatch, tmp_path / "none", None)
        assert open_gpus({}) is None
        assert caplog.text == ""
        with_driver(monkeypatch, tmp_path, None)
        assert open_gpus({}) is None
        assert "pip install 'conch[gpu]'" in caplog.text


def test_a_driver_that_refuses_is_told_and_no_reason_not_to_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_driver(monkeypatch, tmp_path, FakeNvml(refused=("nvmlInit",)))
    assert open_gpus({}) is None
    assert "the driver says 'Not Supported'" in caplog.text


def test_the_driver_of_these_tests_has_the_form_of_the_package() -> None:
    pynvml = pytest.importorskip("pynvml")
    asked = [name for name in vars(FakeNvml) if name.startswith("nvml")]
    assert asked
    assert [name for name in asked if not callable(getattr(pynvml, name, None))] == []
    assert issubclass(pynvml.NVMLError, Exception)
