"""Writes model repositories for tests."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

IDENTITY_MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]))
        return responses
"""


class ModelRepositoryBuilder:
    """A repository under `root`; each call adds or replaces a model and returns the builder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def add(
        self, name: str, model_py: str, config: str | None, files: Mapping[str, bytes] | None = None, version: int = 1
    ) -> ModelRepositoryBuilder:
        """A Python-backend model; `config` None leaves config.pbtxt out."""
        directory = self.root / name
        (directory / str(version)).mkdir(parents=True, exist_ok=True)
        (directory / str(version) / "model.py").write_text(textwrap.dedent(model_py))
        if config is not None:
            (directory / "config.pbtxt").write_text(textwrap.dedent(config))
        for relative, content in (files or {}).items():
            path = directory / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return self

    def add_identity(
        self,
        name: str = "identity",
        datatype: str = "TYPE_FP32",
        dims: str = "[ -1 ]",
        max_batch_size: int = 8,
        extra: str = "",
    ) -> ModelRepositoryBuilder:
        """A model that answers OUTPUT0 = INPUT0, with dynamic batching where it batches."""
        batching = "dynamic_batching { }" if max_batch_size else ""
        config = f"""
        backend: "python"
        max_batch_size: {max_batch_size}
        input [ {{ name: "INPUT0" data_type: {datatype} dims: {dims} }} ]
        output [ {{ name: "OUTPUT0" data_type: {datatype} dims: {dims} }} ]
        {batching}
        {extra}
        """
        return self.add(name, IDENTITY_MODEL, config)
