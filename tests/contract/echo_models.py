"""Models that echo INPUT0 as OUTPUT0, written for every backend of the contract suite."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
from onnx import TensorProto, helper


def write_python(directory: Path) -> None:
    (directory / "model.py").write_text(
        """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())])
            for request in requests
        ]
"""
    )


def write_onnx(directory: Path) -> None:
    shape = ["batch", "size"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])],
        "echo",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, shape)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), directory / "model.onnx"
    )


def write_openvino(directory: Path) -> None:
    import openvino

    write_onnx(directory)
    model = openvino.Core().read_model(directory / "model.onnx")
    openvino.save_model(model, directory / "model.xml", compress_to_fp16=False)
    (directory / "model.onnx").unlink()


def write_torchscript(directory: Path) -> None:
    import torch

    class Echo(torch.nn.Module):  # type: ignore[misc]
        def forward(self, INPUT0: torch.Tensor) -> torch.Tensor:
            return INPUT0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Echo()).save(directory / "model.pt")


def write_exported(directory: Path) -> None:
    import torch

    class Echo(torch.nn.Module):  # type: ignore[misc]
        def forward(self, INPUT0: torch.Tensor) -> torch.Tensor:
            return INPUT0 + 0

    dynamic = {"INPUT0": {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("size", min=1)}}
    program = torch.export.export(Echo(), (torch.zeros(2, 3),), dynamic_shapes=dynamic)
    torch.export.save(program, directory / "model.pt2")
