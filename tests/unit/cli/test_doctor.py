from __future__ import annotations

import json
import platform
import socket
from pathlib import Path

import pytest

from conch.cli import doctor
from conch.cli.main import main


def test_report_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["python"] == platform.python_version()
    assert found["requirements"]["missing"] == []
    assert "numpy" in found["requirements"]["installed"]
    assert found["cpu"]["usable_cores"] >= 1
    assert found["memory"]["total_bytes"] > 0


def test_report_names_every_section() -> None:
    printed = doctor.render(doctor.report())
    for section in ("conch", "python", "platform", "packages", "extra hf", "cpu", "memory", "gpus", "ports"):
        assert f"\n{section} " in "\n" + printed


def test_missing_extra_names_the_pip_line() -> None:
    found = doctor.report()
    found["extras"] = {"hf": {"installed": {}, "missing": ["torch"], "install": "pip install 'conch[hf]'"}}
    found["problems"] = doctor.problems(found)
    assert "! missing torch: pip install 'conch[hf]'" in doctor.render(found)
    assert "torch MISSING" in doctor.render(found)


def test_taken_port_names_the_flag_that_chooses_another() -> None:
    found = doctor.report()
    found["ports"] = doctor.ports(lambda port: port != 8001)
    assert doctor.problems(found)[-1] == "port 8001 is taken: conch serve --grpc-port=<another port>"
    assert "grpc 8001 TAKEN" in doctor.render(found)


def test_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        assert not doctor.is_free(listener.getsockname()[1])


def test_gpus_that_torch_does_not_see_are_a_problem() -> None:
    found = doctor.report()
    found["gpus"] = {"driver": ["H200"], "torch": {"devices": []}}
    assert "the driver sees GPUs, torch does not: install a CUDA build of torch" in doctor.problems(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f amx_int8\n", ["avx2", "avx512f", "amx_int8"]),
        ("Features\t: fp asimd bf16\n", ["asimd", "bf16"]),
        ("nothing", []),
    ],
)
def test_cpu_features_are_read_from_cpuinfo(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert doctor.cpu_features(tmp_path / "cpuinfo") == expected


def test_cpu_features_are_unknown_without_cpuinfo(tmp_path: Path) -> None:
    assert doctor.cpu_features(tmp_path / "none") == []
