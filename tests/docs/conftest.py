"""The server that the documents talk about: the tutorial's models, as its reader would have them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from conch.deploy.tasks import find_task
from conch.deploy.tasks.spec import TensorSpec
from conch.testing import ModelRepositoryBuilder
from tests.docs.markdown import ROOT, fences
from tests.serving import ServerProcess, serving

#: Has the tensors of a deployed CLIP, and likes the first text best.
_CLIP = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
        logits = np.tile(-np.arange(texts.shape[1], dtype=np.float32), (len(texts), 1))
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        json = np.array([[b"[]"]] * len(texts), dtype=object)
        outputs = {"logits_per_image": logits, "probs": probs, "labels": texts, "json": json}
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, outputs[name]) for name in outputs if name in wanted])
"""


#: A model that nobody asks: it has the metrics of decoupled models.
_STREAM = "class TritonPythonModel:\n    def execute(self, requests): ..."
_STREAM_CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: 1 }
output { name: "OUT" data_type: TYPE_FP32 dims: 1 }
model_transaction_policy { decoupled: true }
"""


class Workplace(msgspec.Struct):
    """A directory laid out as the documents assume, and the server that serves its `models`."""

    directory: Path
    server: ServerProcess

    def adapt(self, text: str) -> str:
        """A snippet for this server's ports instead of the default ones."""
        text = re.sub(r"\bconch infer (\w+)", rf"conch infer \1 --url {self.server.http_url}", text)
        ports = {"8000": self.server.http, "8001": self.server.grpc, "8002": self.server.metrics}
        return re.sub(r"localhost:(800[012])", lambda found: f"127.0.0.1:{ports[found[1]]}", text)

    def run(self, command: list[str], timeout_s: float = 110) -> subprocess.CompletedProcess[str]:
        """Run a program here, with this environment's `conch` and `python3` in front."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=self.directory,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


@pytest.fixture(scope="session")
def workplace_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """The tutorial's files (those whose path it names), a stand-in for the model it deploys, and a server."""
    directory = tmp_path_factory.mktemp("docs")
    for fence in fences(ROOT / "docs" / "tutorial.md"):
        if fence.file:
            path = directory / fence.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fence.text)
    for picture in ("photo.jpg", "examples/shapes-clip/samples/red-circle.png"):
        path = directory / picture
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at by the stand-in")
    ModelRepositoryBuilder(directory / "models").add("clip", _CLIP, _clip_config())
    with serving(directory / "models", "--model-control-mode=explicit", "--load-model=*") as server:
        yield Workplace(directory, server)
        assert server.stop() == 0


@pytest.fixture
def metrics_url(tmp_path: Path) -> Iterator[str]:
    """The metrics of a server that has models of every kind and counts everything it can."""
    builder = ModelRepositoryBuilder(tmp_path / "models")
    builder.add("clip", _CLIP, _clip_config())
    builder.add("stream", _STREAM, _STREAM_CONFIG)
    flags = ["--metrics-config=summary_latencies=true", "--metrics-config=histogram_latencies=true"]
    with serving(builder.root, *flags) as server:
        yield f"http://127.0.0.1:{server.metrics}/metrics"


def _clip_config() -> str:
    task = find_task("zero-shot-image-classification")
    inputs = ", ".join(map(_tensor, task.inputs))
    outputs = ", ".join(map(_tensor, task.outputs))
    tensors = f"input [ {inputs} ] output [ {outputs} ]"
    return f'backend: "python" max_batch_size: {task.max_batch_size} {tensors} response_cache {{ enable: true }}'


def _tensor(spec: TensorSpec) -> str:
    data_type = "TYPE_STRING" if spec.datatype.value == "BYTES" else f"TYPE_{spec.datatype.value}"
    return f'{{ name: "{spec.name}" data_type: {data_type} dims: {list(spec.dims)} }}'
