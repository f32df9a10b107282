"""Converting to OpenVINO's format: whatever its reader does, the deploy lives on."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino")

from conch.deploy.export import openvino
from conch.deploy.export.onnx import OnnxFile
from conch.deploy.export.openvino import write_openvino
from tests.unit.deploy.export.networks import text_network


def no_model(directory: Path) -> OnnxFile:
    path = directory / "model.onnx"
    path.write_bytes(b"this is no model")
    return OnnxFile(path=path, inputs=(), opset=17, exporter="script", external=False)


def test_file_that_cannot_be_read_is_an_error_with_the_reader_s_text(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"openvino|Exception from|Unable to read"):
        write_openvino(text_network(), no_model(tmp_path), tmp_path / "openvino", "float32")


def test_reader_that_crashes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, -signal.SIGSEGV, "", "")

    monkeypatch.setattr(openvino.subprocess, "run", crash)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=r"crashed \(SIGSEGV\)"):
        write_openvino(text_network(), no_model(tmp_path), tmp_path / "openvino", "float32")
