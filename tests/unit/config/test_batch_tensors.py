from __future__ import annotations

import logging

import pytest

from conch.config.batch_tensors import engine_inputs, target_names
from conch.config.pbtxt import from_message, parse
from conch.config.schema import BatchInput, BatchInputKind, BatchOutput, ModelInput
from conch.config.validate import validate, violations
from conch.tensor import DataType

HEAD = """
name: "m" backend: "%s" max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true } ]
output [ { name: "y" data_type: TYPE_FP32 dims: -1 } ]
"""
INPUT = 'batch_input { kind: %s target_name: "n" data_type: TYPE_INT32 source_input: "x" }'
OUTPUT = 'batch_output { target_name: "y" source_input: "x" }'


def text(extra: str, backend: str = "onnxruntime") -> str:
    platform = 'platform: "onnxruntime_onnx"' if backend == "onnxruntime" else ""
    return HEAD % backend + platform + extra


@pytest.mark.parametrize("kind", BatchInputKind)
def test_every_kind_is_read(kind: BatchInputKind) -> None:
    config = from_message(parse(text(INPUT % kind.value + OUTPUT)))
    assert config.batch_input == (BatchInput(kind, ("n",), DataType.INT32, "x"),)
    assert config.batch_output == (BatchOutput(("y",), "x"),)


def test_an_engine_has_the_inputs_made_of_a_batch_behind_the_others() -> None:
    config = from_message(parse(text(INPUT % "BATCH_ITEM_SHAPE")))
    assert engine_inputs(config)[1:] == (ModelInput("n", DataType.INT32, (-1, -1)),)
    assert target_names(config.message) == {"n"}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (
            'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: TYPE_INT32 }',
            "batch input kind 'BATCH_ELEMENT_COUNT' expects 1 source input, got 0 for m",
        ),
        (
            'batch_input { kind: BATCH_ITEM_SHAPE target_name: "n" data_type: TYPE_INT32 source_input: [ "x", "x" ] }',
            "batch input kind 'BATCH_ITEM_SHAPE' expects 1 source input, got 2 for m",
        ),
        (
            'batch_input { target_name: "n" data_type: TYPE_INT32 source_input: "z" }',
            "unknown source input name 'z' for m",
        ),
        (
            'batch_input { target_name: "n" data_type: TYPE_INT64 source_input: "x" }',
            "batch input data type must be TYPE_INT32 or TYPE_FP32 for m",
        ),
        (
            'batch_input { target_name: "n" source_input: "x" }',
            "unexpected batch input data type 'TYPE_INVALID'",
        ),
        (
            'batch_input { target_name: "x" data_type: TYPE_INT32 source_input: "x" }',
            "target input name 'x' is the name of another input for m",
        ),
        (
            'batch_output { target_name: "y" }',
            "batch output kind 'BATCH_SCATTER_WITH_INPUT_SHAPE' expects 1 source input, got 0 for m",
        ),
        ('batch_output { target_name: "y" source_input: "z" }', "unknown source input name 'z' for m"),
        ('batch_output { target_name: "z" source_input: "x" }', "unknown target output name 'z' for m"),
        (
            'batch_output { target_name: [ "y", "y" ] source_input: "x" }',
            "target output name 'y' can only be specified once for m",
        ),
        ('batch_output { source_input: "x" }', "batch output must specify 'target_name' for m"),
        (
            'output { name: "w" data_type: TYPE_FP32 dims: [ 2, -1 ] } '
            'batch_output { target_name: "w" source_input: "x" }',
            "batch output 'w' has a variable dimension beyond the 1 of its source input 'x' for m",
        ),
    ],
)  # fmt: skip
def test_broken_rule_is_the_only_violation_found(extra: str, expected: str) -> None:
    assert violations(parse(text(extra)), complete=True) == [expected]


def test_python_models_get_no_such_inputs_and_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        validate(from_message(parse(text(INPUT % "BATCH_ELEMENT_COUNT" + OUTPUT, backend="python"))))
    assert "'batch_input' is ignored (models of backend 'python' get the tensors of each request)" in caplog.text
    assert "'batch_output' is ignored" in caplog.text


def test_framework_models_have_no_such_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        validate(from_message(parse(text(INPUT % "BATCH_ELEMENT_COUNT" + OUTPUT))))
    assert "batch_input" not in caplog.text
