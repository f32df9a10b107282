"""Name the classes that a network scored: `logits`, `probs` -> `label`, `json`, and `logits`, `probs` of all rows of a
request where some were set apart.

`labels.json` beside model.py is the list of the names. Without the input `probs`, the scores are computed here and are
an output; the setting `function_to_apply` says how: softmax, sigmoid or none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_rows import bring_back
from light_serving import Outputs, Row, Settings, activation, answer, to_json

# How many classes `json` lists unless a request says otherwise, as the pipelines do; None: all.
DEFAULT_TOP_K = {"text-classification": 1, "image-classification": 5, "video-classification": 5}


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.labels = self.settings.read_json("labels.json")

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row], function_to_apply: str | None = None, **parameters: Any) -> list[Outputs]:
        (code,) = activation(self.settings, function_to_apply)
        default = DEFAULT_TOP_K.get(self.settings.task)
        top_k = parameters.get("top_k", default)
        if top_k is None and self.settings.task != "text-classification":
            top_k = default
        return [self.outputs(sample, code, top_k) for (sample,) in bring_back(self.settings, samples)]

    def outputs(self, sample: Row, code: int, top_k: int | None) -> Outputs:
        logits = sample["logits"]
        probs = sample["probs"] if "probs" in sample else scores(logits, code)
        order = np.argsort(-probs, kind="stable")[:top_k]
        ranked = [{"label": self.labels[index], "score": float(probs[index])} for index in order]
        return {"logits": logits, "probs": probs, "label": [self.labels[int(logits.argmax())]], "json": to_json(ranked)}


def scores(logits: np.ndarray, code: int) -> np.ndarray:
    """The scores of logits: 0 the logits themselves, 1 softmax, 2 sigmoid."""
    if code == 0:
        return logits
    if code == 2:
        return 1 / (1 + np.exp(-logits))
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
