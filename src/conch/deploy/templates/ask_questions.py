"""Questions about a state (JSON) -> the prompts of a language model, and where and for which tokens to read it.

`input_ids`, `attention_mask` [prompts, sequence]; `marks` [prompts, places]: how many tokens are before each place that
is read; `labels` [prompts, places, options]: the token that stands for each option of the question read there;
`context`: the questions of each prompt.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import transformers
from hf_serving import Outputs, Settings, answer
from light_inputs import decode_request
from light_serving import stack
from transformers.decision import DecisionConfig, label_token_ids


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        trusted = self.settings.values.get("trust_remote_code") == "true"
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.settings.checkpoint, trust_remote_code=trusted)
        self.config = DecisionConfig.from_pretrained(self.settings.checkpoint)
        self.label_token_ids = functools.cache(functools.partial(label_token_ids, self.tokenizer))
        self.settings.fill["input_ids"] = self.tokenizer.pad_token_id or 0

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, decode_request, self.infer)

    def infer(self, samples: list[dict[str, Any]], **parameters: Any) -> list[Outputs]:
        return [self.prompts(sample) for sample in samples]

    def prompts(self, request: dict[str, Any]) -> Outputs:
        prompts = self.config.prepare_inputs(request, self.tokenizer)
        ids = [np.asarray(inputs["input_ids"][0]) for inputs, _ in prompts]
        labels = [[np.array(self.label_token_ids(tuple(each.labels))) for each in asked] for _, asked in prompts]
        options = max(len(each) for several in labels for each in several)
        padded = [
            np.stack([np.pad(each, (0, options - len(each))) for each in several]).astype(np.int64)
            for several in labels
        ]
        return {
            "input_ids": stack(ids, self.settings.fill["input_ids"]),
            "attention_mask": stack([np.ones_like(each) for each in ids]),
            "marks": stack([np.asarray(inputs["marks"]) for inputs, _ in prompts]),
            "labels": stack(padded),
            "context": [json.dumps([[self.described(each) for each in asked] for _, asked in prompts])],
        }

    def described(self, question: Any) -> dict[str, Any]:
        """What the answer to a question needs of it."""
        return {
            "name": question.name,
            "type": question.type,
            "options": question.options,
            "descriptions": question.descriptions,
            "temperature": float(self.config.temperature.get(question.type, 1.0)),
        }
