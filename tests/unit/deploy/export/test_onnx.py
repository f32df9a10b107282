"""ONNX files: names, dimensions, versions, weights outside the file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

import conch.deploy.export.onnx as export
from conch.deploy.export.onnx import OnnxRuntimeRunner, write_onnx
from conch.deploy.export.openvino import OpenVinoRunner, newest_opset, write_openvino
from conch.deploy.export.prove import expected_outputs, prove, worst
from tests.unit.deploy.export.networks import Pooler, text_network


def dimensions(values: Any) -> dict[str, list[str | int]]:
    return {each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in values}


@pytest.mark.parametrize("exporter", ["script", pytest.param("dynamo", marks=pytest.mark.slow)])
def test_dimensions_are_those_of_the_network(exporter: str, tmp_path: Path) -> None:
    file = write_onnx(text_network(), tmp_path, exporter, None, 10)
    graph = onnx.load(str(file.path)).graph
    assert dimensions(graph.output) == {"pooled": ["batch", 8], "scores": ["batch", "sequence", 3]}
    assert {tuple(each) for each in dimensions(graph.input).values()} == {("batch", "sequence")}
    assert file.inputs[:2] == ("input_ids", "attention_mask")
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    assert not any(node.metadata_props or node.doc_string for node in graph.node)


@pytest.mark.parametrize("opset", [12, 17, 20])
def test_the_opset_that_is_asked_for_is_written(opset: int, tmp_path: Path) -> None:
    file = write_onnx(text_network(), tmp_path, "script", opset, 8)
    model = onnx.load(str(file.path))
    assert file.opset == opset == model.opset_import[0].version
    assert model.ir_version <= 8


def test_weights_that_are_too_many_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "EXTERNAL_DATA_BYTES", 100)
    network = text_network()
    file = write_onnx(network, tmp_path / "onnx", "script", None, 10)
    assert file.external
    assert sorted(each.name for each in file.path.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    expected = expected_outputs(network)
    assert worst(prove(network, expected, OnnxRuntimeRunner(file.path, 1), "onnxruntime", "float32")).passed
    path = write_openvino(network, file, tmp_path / "openvino", "float32")
    assert worst(prove(network, expected, OpenVinoRunner(path, 1), "openvino", "float32")).passed
    assert 1 <= newest_opset(path) <= 16


def test_warnings_are_silenced_for_the_exporter_alone(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        write_onnx(text_network(), tmp_path, "script", None, 10)
        warnings.warn("mine", stacklevel=1)
    assert [str(each.message) for each in seen] == ["mine"]


def test_a_failing_exporter_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The standard output may be JSON."""

    class NeedsNewerOperators(Pooler):
        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            pooled, scores = super().forward(*tensors)
            return nn.functional.scaled_dot_product_attention(pooled[:, None], pooled[:, None], pooled[:, None]), scores

    with pytest.raises(Exception, match="scaled_dot_product_attention"):
        write_onnx(text_network(NeedsNewerOperators()), tmp_path, "script", 12, 10)
    assert tuple(capfd.readouterr()) == ("", "")
