"""Run a model that generates: tensors of its inputs, `context` -> `generated`, `new_tokens`.

`generated` is what the pipeline's forward made, for its postprocess. `new_tokens` [sequences, tokens] (-1 is padding)
are the tokens without the prompt, for text-generation. The request parameters are those of the whole task; requests
that sent equal ones are generated together where the model can be batched.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from hf_media import forward_batches
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, stage_parameters
from hf_text import length_groups, pad
from light_generation import pipeline_parameters
from light_inputs import one_text
from pipeline_shell import join_tensors, split_tensors
from transformers.pipelines.base import ChunkPipeline


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.settings.fill["new_tokens"] = -1
        self.pipe = load_pipeline(self.settings)
        self.cuts = isinstance(self.pipe, ChunkPipeline)
        self.can_pad = self.pipe.tokenizer is not None and self.pipe.tokenizer.pad_token_id is not None

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> list[Any]:
        """The parts that the preprocess made of a sample, one of them unless its pipeline cuts."""
        tensors = {name: value for name, value in row.items() if name != "context"}
        if "context" not in row:
            return [{**{name: torch.from_numpy(value)[None] for name, value in tensors.items()}, "prompt_text": ""}]
        context = one_text(row["context"])
        if not self.cuts:
            return [join_tensors(self.pipe, context, tensors)]
        contexts = json.loads(context)
        rows = [tensors] if self.settings.values.get("parts") != "true" else [
            {name: value[number] for name, value in tensors.items()} for number in range(len(contexts))
        ]  # fmt: skip
        return [join_tensors(self.pipe, each, own) for each, own in zip(contexts, rows, strict=True)]

    def infer(self, samples: list[list[Any]], **parameters: Any) -> list[Outputs]:
        parameters = pipeline_parameters(self.settings.task, parameters)
        _, forward, _ = stage_parameters(self.pipe, parameters)
        parts = [part for sample in samples for part in sample]
        if self.settings.task == "text-generation":
            made = iter(self.continue_texts(parts, forward))
        elif self.settings.task == "automatic-speech-recognition":
            # The pipeline finds the language of the first sound of a batch only.
            largest = 1 if parameters.get("return_language") else len(parts)
            made = iter(forward_batches(self.pipe, parts, largest=largest, **forward))
        else:
            made = iter([self.pipe.forward(part, **forward) for part in parts])
        return [self.outputs([next(made) for _ in sample]) for sample in samples]

    def continue_texts(self, parts: list[Any], forward: dict[str, Any]) -> list[dict[str, Any]]:
        """What the pipeline's forward makes of each prompt, those of similar length together."""
        names = [name for name in ("input_ids", "attention_mask") if name in parts[0]]
        prompts = [{name: part[name] for name in names} for part in parts]
        lengths = [prompt["input_ids"].shape[1] for prompt in prompts]
        # Padding matters less than in an encoder: it costs in the prompt alone, while every new token gains.
        alone = [[index] for index in range(len(parts))]
        groups = length_groups(lengths, 2 * self.settings.max_padding) if self.can_pad else alone
        made: list[dict[str, Any]] = [{} for _ in parts]
        for group in groups:
            batch = pad([prompts[index] for index in group], self.pipe.tokenizer)
            batch["prompt_text"] = [parts[index]["prompt_text"] for index in group]
            output = self.pipe.forward(batch, **forward)
            for row, index in enumerate(group):
                ids = output["input_ids"]  # none for an empty prompt
                own = {
                    "input_ids": None if ids is None else ids[row : row + 1],
                    "prompt_text": batch["prompt_text"][row],
                }
                made[index] = {"generated_sequence": output["generated_sequence"][row : row + 1], **own}
        return made

    def outputs(self, parts: list[dict[str, Any]]) -> Outputs:
        outputs: Outputs = {"generated": lambda: [json.dumps([split_tensors(part, {})[1] for part in parts])]}
        if self.settings.task == "text-generation":
            ids = parts[0]["input_ids"]
            outputs["new_tokens"] = parts[0]["generated_sequence"][0, :, 0 if ids is None else ids.shape[1] :]
        return outputs
