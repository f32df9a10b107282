"""Turn texts into vectors.

feature-extraction: `text` -> `last_hidden_state` [tokens, hidden size], `attention_mask` [tokens]
sentence-embedding: `text` -> `embeddings` [dimension], pooled (and projected, and normalised) as the checkpoint says
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, stage_parameters
from hf_text import check_lengths, forward_texts, settle_padding
from light_inputs import one_text
from light_outputs import token_states
from safetensors.torch import load_file


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings, "feature-extraction")
        settle_padding(self.pipe.model, self.pipe.tokenizer, self.settings)
        if self.settings.task == "sentence-embedding":
            values = self.settings.values
            self.infer = self.embed
            self.pooling = values["pooling"].split(",")
            self.normalize = values["normalize"] == "true"
            self.max_length = int(values.get("max_seq_length", 0)) or None
            self.prompts = json.loads(values.get("prompts", "{}"))
            self.dense = [load_dense(self.settings.directory / name) for name in values.get("dense", "").split()]
        else:
            self.infer = self.extract

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> str:
        return one_text(row["text"])

    def extract(self, samples: list[str], **parameters: Any) -> list[Outputs]:
        preprocess, _, _ = stage_parameters(self.pipe, parameters)
        encodings = [self.pipe.preprocess(text, **preprocess) for text in samples]
        check_lengths(encodings, self.pipe.model, self.pipe.tokenizer)
        outputs = forward_texts(self.pipe.model, self.pipe.tokenizer, encodings, self.settings.max_padding)
        return [token_states(self.pipe, output, {}) for output in outputs]

    def embed(
        self, samples: list[str], prompt: str = "", prompt_name: str = "", normalize: bool | None = None
    ) -> list[Outputs]:
        if prompt_name and prompt_name not in self.prompts:
            raise ValueError(f"unknown prompt_name {prompt_name!r}; the checkpoint has {sorted(self.prompts)}")
        prompt = prompt or self.prompts.get(prompt_name or self.settings.values.get("default_prompt_name", ""), "")
        encodings = [
            self.pipe.tokenizer(prompt + text.strip(), truncation=True, max_length=self.max_length, return_tensors="pt")
            for text in samples
        ]
        outputs = forward_texts(self.pipe.model, self.pipe.tokenizer, encodings, self.settings.max_padding)
        results: list[Outputs] = []
        for output in outputs:
            vector = torch.cat([pool(output["last_hidden_state"][0].float(), mode) for mode in self.pooling])
            for layer in self.dense:
                vector = layer(vector)
            if self.normalize if normalize is None else normalize:
                vector = torch.nn.functional.normalize(vector, dim=0)
            results.append({"embeddings": vector})
        return results


def pool(states: torch.Tensor, mode: str) -> torch.Tensor:
    """One vector of the token states [tokens, hidden size] of a text."""
    if mode == "cls":
        return states[0]
    if mode == "max":
        return states.max(dim=0).values
    if mode == "lasttoken":
        return states[-1]
    if mode == "mean_sqrt_len_tokens":
        return states.sum(dim=0) / len(states) ** 0.5
    if mode == "weightedmean":
        weights = torch.arange(1, len(states) + 1, dtype=states.dtype)
        return (states * weights[:, None]).sum(dim=0) / weights.sum()
    return states.mean(dim=0)


def load_dense(directory: Path) -> torch.nn.Module:
    """A projection layer of a sentence-transformers checkpoint."""
    config = json.loads(Path(directory, "config.json").read_text())
    linear = torch.nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    weights = load_file(Path(directory, "model.safetensors"))
    linear.load_state_dict({name.removeprefix("linear."): value.float() for name, value in weights.items()})
    activation = getattr(torch.nn, config.get("activation_function", "torch.nn.Tanh").rsplit(".", 1)[-1])()
    return torch.nn.Sequential(linear, activation)
