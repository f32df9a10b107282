"""What a transformers pipeline does after its network: `context` and outputs of the network -> outputs of the task.

The setting `fields` names the network's outputs in the order of the model's own; further inputs are tensors that the
network took and the pipeline needs again. Without it, the input `generated` is what `generate.py` made.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from hf_serving import Outputs, Row, Settings, answer, stage_parameters
from light_generation import pipeline_parameters
from light_inputs import one_text
from light_outputs import OUTPUTS, RESULTS
from light_rows import bring_back
from pipeline_shell import join_tensors, load_shell, output_class
from transformers.pipelines.base import ChunkPipeline


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_shell(self.settings)
        self.fields = self.settings.values.get("fields", "").split()
        self.output_class = output_class(self.fields)
        self.cuts = isinstance(self.pipe, ChunkPipeline)
        self.takes_parts = self.settings.values.get("parts") == "true"
        self.cut = json.loads(self.settings.values.get("cut", "{}"))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row], **parameters: Any) -> list[Outputs]:
        parameters = pipeline_parameters(self.settings.task, parameters)
        _, forward, postprocess = stage_parameters(self.pipe, parameters)
        return [self.postprocess(rows, forward, postprocess) for rows in bring_back(self.settings, samples)]

    def postprocess(self, rows: list[Row], forward: dict[str, Any], postprocess: dict[str, Any]) -> Outputs:
        sample = rows[0]
        if "generated" in sample:
            contexts = json.loads(one_text(sample["generated"]))
            output: Any = [join_tensors(self.pipe, context, {}) for context in contexts]
            output = output if self.cuts else output[0]
        elif self.cuts:
            output = [self.replay(part, forward) for part in self.split(rows)]
        else:
            output = self.replay({**sample, "context": one_text(sample["context"])}, forward)
        task = self.settings.task
        if task in OUTPUTS:
            return OUTPUTS[task](self.pipe, output, postprocess)
        return RESULTS[task](self.pipe.postprocess(output, **postprocess))

    def split(self, rows: list[Row]) -> list[dict[str, Any]]:
        """The parts of a sample."""
        sample = rows[0]
        contexts = json.loads(one_text(sample["context"]))
        tensors = {name: value for name, value in sample.items() if name != "context"}
        if not self.takes_parts:
            return [{**row, "context": context} for row, context in zip(rows, contexts, strict=True)]
        # Rows behind the last part are padding of the request.
        return [
            {**{name: value[row] for name, value in tensors.items()}, "context": context}
            for row, context in enumerate(contexts)
        ]

    def replay(self, sample: dict[str, Any], forward: dict[str, Any]) -> Any:
        """The pipeline's own steps around the network, which has run already."""
        own = {name: value for name, value in sample.items() if name not in (*self.fields, "context")}
        encoded = join_tensors(self.pipe, sample["context"], own)
        values = {name: torch.from_numpy(np.array(sample[name]))[None] for name in self.fields if name in sample}
        for name, (axis, source, of) in self.cut.items():
            values[name] = values[name].narrow(axis + 1, 0, encoded[source].shape[of + 1])
        self.pipe.model.forward = lambda *args, **inputs: self.output_class(**values)
        return self.pipe._forward(encoded, **forward)
