"""A repository for a Triton that has no ONNX Runtime backend: Python models run the same files in its place."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

#: What stands in: one session, as many threads as cores, the requests of a batch put together as the backend does it.
_MODEL = '''"""Runs model.onnx with ONNX Runtime in place of the ONNX Runtime backend."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.inputs = [each["name"] for each in config["input"]]
        self.outputs = [each["name"] for each in config["output"]]
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        read = pb_utils.get_input_tensor_by_name
        columns = [[read(request, name).as_numpy() for request in requests] for name in self.inputs]
        sizes = [len(array) for array in columns[0]]
        fed = {
            name: np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
            for name, arrays in zip(self.inputs, columns)
        }
        results = self.session.run(self.outputs, fed)
        ends = np.cumsum(sizes)
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, result[end - size : end]) for name, result in zip(self.outputs, results)]
            )
            for size, end in zip(sizes, ends)
        ]
'''


def replace_engines(repository: Path, model: str, target: Path) -> Path:
    """A copy of an ensemble with its parts in `target`, ONNX Runtime models replaced; returns the copy."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for source in [*sorted(repository.glob(f"{model}_*")), repository / model]:
        copy = target / source.name
        shutil.copytree(source, copy)
        config = (copy / "config.pbtxt").read_text()
        if 'backend: "onnxruntime"' not in config:
            continue
        config = config.replace('backend: "onnxruntime"', 'backend: "python"')
        config = re.sub(r'^(platform|default_model_filename): ".*"\n', "", config, flags=re.MULTILINE)
        config = re.sub(r"^optimization \{.*?^\}\n", "", config, flags=re.MULTILINE | re.DOTALL)
        (copy / "config.pbtxt").write_text(config)
        (copy / "1" / "model.py").write_text(_MODEL)
    return target
