"""A network as an ONNX file, by torch's two exporters, and as a session of ONNX Runtime."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from conch.deploy.export.prove import Arrays
from conch.deploy.export.quiet import quiet
from conch.deploy.extras import require
from conch.deploy.split.network import Network
from conch.deploy.tasks import TensorSpec

FILE = "model.onnx"
#: Torch's exporters: the quick one, then the thorough one.
EXPORTERS = ("script", "dynamo")
#: Newest operators each exporter writes by itself; the quick one knows none above 20.
SCRIPT_OPSET, SCRIPT_NEWEST_OPSET, DYNAMO_OPSET = 17, 20, 18
#: Weights beyond this go into a file of their own: a protobuf message ends at 2 GiB.
EXTERNAL_DATA_BYTES = 1900 * 2**20


class OnnxFile(msgspec.Struct, frozen=True):
    """An ONNX file.

    Attributes:
        path: the file; weights that lie outside it are beside it.
        inputs: names of the inputs it has.
        opset: of its operators.
        exporter: "script" or "dynamo".
        external: the weights are in a file beside it.
    """

    path: Path
    inputs: tuple[str, ...]
    opset: int
    exporter: str
    external: bool


def write_onnx(network: Network, directory: Path, exporter: str, opset: int | None, newest_ir: int) -> OnnxFile:
    """Export to `directory`/model.onnx.

    The script exporter takes seconds and leaves out inputs that no output depends on; the dynamo exporter follows more
    of Python and takes a minute or more. Both write sizes they saw as constants where they cannot follow: prove what
    they wrote.

    Raises:
        Exception: whatever the exporter raises.
    """
    raw = directory / "raw"
    raw.mkdir(parents=True)
    with quiet(), require("torch").no_grad():
        {"script": _script, "dynamo": _dynamo}[exporter](network, raw / FILE, opset)
        network.module.eval()  # the script exporter leaves the mode that the outermost module was in
        return _finish(network, require("onnx").load(str(raw / FILE)), raw, directory / FILE, exporter, newest_ir)


def _script(network: Network, path: Path, opset: int | None) -> None:
    modules, torch = require("conch.deploy.export.modules"), require("torch")
    axes = {name: dict(symbols) for name, symbols in network.axes.items() if symbols}
    with _without_graphs(torch):
        torch.onnx.export(
            modules.exportable(network),
            modules.example(network),
            str(path),
            dynamo=False,
            opset_version=opset or SCRIPT_OPSET,
            input_names=[spec.name for spec in network.inputs],
            output_names=[spec.name for spec in network.outputs],
            dynamic_axes=axes,
        )


@contextlib.contextmanager
def _without_graphs(torch: Any) -> Iterator[None]:
    """A failing export prints its whole graph to the standard output, below Python and past torch's own switch."""
    prints = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *parts: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = prints


def _dynamo(network: Network, path: Path, opset: int | None) -> None:
    modules, torch = require("conch.deploy.export.modules"), require("torch")
    varies = torch.export.Dim.AUTO
    torch.onnx.export(
        modules.exportable(network),
        modules.example(network),
        str(path),
        dynamo=True,
        verbose=False,
        opset_version=opset or DYNAMO_OPSET,
        input_names=[spec.name for spec in network.inputs],
        output_names=[spec.name for spec in network.outputs],
        dynamic_shapes=tuple(dict.fromkeys(network.axes.get(spec.name, {}), varies) for spec in network.inputs),
        external_data=True,
    )


def _finish(network: Network, model: Any, raw: Path, path: Path, exporter: str, newest_ir: int) -> OnnxFile:
    """Name the dimensions, lower the IR version, gather the weights, and remove what the exporter wrote."""
    for spec, value in ((spec, v) for spec in network.inputs for v in model.graph.input if v.name == spec.name):
        _name_dimensions(value, spec, network.axes.get(spec.name, {}))
    for spec, value in zip(network.outputs, model.graph.output, strict=True):
        _name_dimensions(value, spec, network.axes.get(spec.name, {}))
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        node.ClearField("metadata_props")  # where in whose source code it came from
        node.ClearField("doc_string")
    model.ir_version = min(model.ir_version, newest_ir)
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    external = save(model, path)
    for each in raw.iterdir():
        each.unlink()
    raw.rmdir()
    return OnnxFile(path, tuple(value.name for value in model.graph.input), opset, exporter, external)


def save(model: Any, path: Path) -> bool:
    """Write a model, its weights into `path`.data if they are too many for one file; returns whether they are."""
    onnx = require("onnx")
    external = bool(model.ByteSize() > EXTERNAL_DATA_BYTES)
    onnx.save_model(model, str(path), save_as_external_data=external, location=f"{path.name}.data")
    return external


def read_versions(path: Path) -> tuple[int, int]:
    """The version of a file's format (IR), and its newest ONNX operators (opset)."""
    model = require("onnx").load(str(path), load_external_data=False)
    return int(model.ir_version), max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))


def _name_dimensions(value: Any, spec: TensorSpec, symbols: Mapping[int, str]) -> None:
    """Write the dimensions the network promises: exporters invent names, and sizes for what varies."""
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for axis in range(len(spec.dims) + 1):
        dim = shape.dim.add()
        size = -1 if axis == 0 else spec.dims[axis - 1]
        if axis in symbols:
            dim.dim_param = symbols[axis]
        elif isinstance(size, int) and size >= 0:
            dim.dim_value = size


class OnnxRuntimeRunner:
    """An ONNX file in ONNX Runtime, with the optimisations it makes while loading."""

    def __init__(self, path: Path, threads: int, device: str = "cpu") -> None:
        ort = require("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what fails is told by the exception
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as it is served
        cpu, gpu = "CPUExecutionProvider", "CUDAExecutionProvider"
        # TF32 would be judged instead of the export: it keeps three digits.
        with_gpu = [(gpu, {"use_tf32": "0"})] if device == "cuda" and gpu in ort.get_available_providers() else []
        self._session = ort.InferenceSession(str(path), options, providers=[*with_gpu, cpu])
        self.device = "cuda" if gpu in self._session.get_providers() else "cpu"
        self.inputs = tuple(each.name for each in self._session.get_inputs())
        self._outputs = [each.name for each in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        return dict(zip(self._outputs, self._session.run(None, dict(feeds)), strict=True))
