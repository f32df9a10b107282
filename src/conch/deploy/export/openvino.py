"""An ONNX file as OpenVINO's model.xml and model.bin, and as a compiled model."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conch.deploy.export.onnx import OnnxFile
from conch.deploy.export.prove import Arrays
from conch.deploy.export.quiet import quiet
from conch.deploy.extras import require
from conch.deploy.split.network import Network

FILE = "model.xml"


def write_openvino(network: Network, source: OnnxFile, directory: Path, dtype: str) -> Path:
    """Convert an FP32 file to `directory`/model.xml, in a process of its own: OpenVINO's reader crashes on some files.

    Args:
        dtype: "float32"; "float16" for weights of half the size; "int8" for weights of matrix products in 8 bits.
            Smaller weights are unpacked when they are used: the CPU computes in FP32.

    Raises:
        RuntimeError: the file could not be converted; the text is the converter's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    names = [[spec.name for spec in specs] for specs in (network.inputs, network.outputs)]
    order = json.dumps([str(source.path), str(directory / FILE), *names, dtype])
    command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()", order]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise RuntimeError(f"OpenVINO's converter crashed ({signal.Signals(-done.returncode).name})")
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"OpenVINO's converter ended with {done.returncode}")
    return directory / FILE


def main() -> None:
    """The process that converts; its argument is what `convert` takes, as JSON."""
    try:
        convert(*json.loads(sys.argv[1]))
    except Exception as error:
        sys.exit(str(error))


def convert(source: str, target: str, inputs: Sequence[str], outputs: Sequence[str], dtype: str) -> None:
    """What `write_openvino` does, here; raises whatever the converter raises."""
    openvino = _library()
    with quiet():
        model = openvino.Core().read_model(source)
        for ports, names in ((model.inputs, inputs), (model.outputs, outputs)):
            _name_tensors(ports, set(names))
        if dtype == "int8":
            nncf = require("nncf")
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
        openvino.save_model(model, target, compress_to_fp16=dtype == "float16")


def _library() -> Any:
    """OpenVINO without its telemetry, which would send what is done here to Google, from a forked process.

    The package that sends is optional: told that it is not there, OpenVINO and NNCF do without.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return require("openvino")


def newest_opset(path: Path) -> int:
    """The newest set of operators that a model.xml uses."""
    return max(map(int, re.findall(r'version="opset(\d+)"', path.read_text(encoding="utf-8"))), default=1)


def _name_tensors(ports: Iterable[Any], wanted: set[str]) -> None:
    """Leave the network's names only: a tensor has a set of names, and which of them is "any" is anyone's guess."""
    for port in ports:
        if names := port.get_names() & wanted:
            port.get_tensor().set_names(names)


class OpenVinoRunner:
    """A model.xml compiled for the CPU as it is when it serves: FP32 stays FP32 on processors that know bfloat16."""

    device = "cpu"

    def __init__(self, path: Path, threads: int) -> None:
        core = _library().Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        written = core.read_model(str(path))
        self._names = {name for port in (*written.inputs, *written.outputs) for name in port.get_names()}
        self._model = core.compile_model(written, "CPU", settings)
        self._request = self._model.create_infer_request()
        self._input_ports = {name: port for port in self._model.inputs for name in self._own_names(port)}
        self.inputs = tuple(self._input_ports)

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        self._request.infer({self._input_ports[name]: array for name, array in feeds.items()})
        tensors = [(port, self._request.get_tensor(port)) for port in self._model.outputs]
        return {name: np.array(tensor.data) for port, tensor in tensors for name in self._own_names(port)}

    def _own_names(self, port: Any) -> set[str]:
        """The names that the file has: compiling adds those of operations that it fused into an input or output."""
        names: set[str] = port.get_names() & self._names
        return names
