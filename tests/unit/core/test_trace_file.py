"""Traces as Triton writes them to files."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.core.trace_file import TraceFiles, entries
from conch.tensor import DataType, Tensor
from conch.trace import TENSORS, TIMESTAMPS, RequestTrace


def traced(level: int, *inputs: Tensor) -> RequestTrace:
    """An ensemble's request with one step."""
    trace = RequestTrace(level, count(1).__next__, lambda ended: None)
    trace.at("REQUEST_START", 10)
    trace.begin("chain", 1, "r1", inputs)
    trace.at("QUEUE_START", 20)
    part = trace.part()
    part.at("REQUEST_START", 30)
    part.begin("step", 2, "", inputs)
    part.at("QUEUE_START", 35)
    part.executed(40, 50, (1, 2, 3))
    part.answered(inputs)
    trace.answered(inputs)
    return trace


def fp32(*values: float) -> Tensor:
    return Tensor.from_numpy("X", np.array([values], np.float32), DataType.FP32)


def test_timestamps_and_parts_are_told() -> None:
    told = list(entries(traced(TIMESTAMPS)))
    assert told[:3] == [
        {"id": 1, "model_name": "chain", "model_version": 1, "request_id": "r1"},
        {"id": 1, "timestamps": [{"name": "REQUEST_START", "ns": 10}]},
        {"id": 1, "timestamps": [{"name": "QUEUE_START", "ns": 20}]},
    ]
    assert {"id": 2, "model_name": "step", "model_version": 2, "parent_id": 1} in told
    compute = [entry["timestamps"][0] for entry in told if "COMPUTE" in str(entry)]
    assert [(moment["name"], moment["ns"]) for moment in compute] == [
        ("COMPUTE_START", 40),
        ("COMPUTE_INPUT_END", 41),
        ("COMPUTE_OUTPUT_START", 47),
        ("COMPUTE_END", 50),
    ]


@pytest.mark.parametrize("level", [TENSORS, TENSORS | TIMESTAMPS])
def test_tensors_of_request_and_part_are_told(level: int) -> None:
    told = [entry for entry in entries(traced(level, fp32(1.5, 2))) if "activity" in entry]
    assert [(entry["id"], entry["activity"]) for entry in told] == [
        (1, "TENSOR_QUEUE_INPUT"),
        (1, "TENSOR_BACKEND_OUTPUT"),
        (2, "TENSOR_QUEUE_INPUT"),
        (2, "TENSOR_BACKEND_OUTPUT"),
    ]
    assert told[0]["tensor"] == {"name": "X", "data": "1.5,2", "shape": "1,2", "dtype": "FP32"}


@pytest.mark.parametrize(
    ("array", "datatype", "text"),
    [
        (np.array([1, -2], np.int64), DataType.INT64, "1,-2"),
        (np.array([True, False]), DataType.BOOL, "1,0"),
        (np.array([b"a", b'"'], object), DataType.BYTES, '"a","""'),
        (np.array([0x3F80, 0x4000], np.uint16), DataType.BF16, "1,2"),
        (np.array([1 / 3], np.float64), DataType.FP64, "0.333333"),
        (np.empty(0, np.float32), DataType.FP32, ""),
    ],
)
def test_elements_are_texts(array: np.ndarray, datatype: DataType, text: str) -> None:
    trace = traced(TENSORS, Tensor.from_numpy("X", array, datatype))
    first = next(entry for entry in entries(trace) if "activity" in entry)
    assert first["tensor"]["data"] == text


def test_files_are_json_numbered_or_not(tmp_path: Path) -> None:
    files = TraceFiles(str(tmp_path / "t.json"))
    for numbered in (False, True, False, True):
        files.write([traced(TIMESTAMPS)], numbered)
    files.close()
    files.close()
    once = len(list(entries(traced(TIMESTAMPS))))

    def length(name: str) -> int:
        found: list[Any] = json.loads((tmp_path / name).read_text())
        return len(found)

    assert [length(name) for name in ("t.json", "t.json.0", "t.json.1")] == [2 * once, once, once]


def test_a_file_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = TraceFiles(str(tmp_path / "nowhere" / "t.json"))
    files.write([traced(TIMESTAMPS)], True)
    files.close()
    assert "cannot write traces to" in caplog.text
