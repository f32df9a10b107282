"""Put scores in order.

zero-shot-image-classification, zero-shot-audio-classification: `probs`, `labels` -> `json`
text-ranking: `scores`, `text` -> `json`
zero-shot-classification: `logits` [n, classes], `text`, `labels` -> `labels`, `scores`, best first, `json`; the setting
`entailment` is the number of the class that means yes
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_inputs import all_texts, one_text
from light_scores import softmax
from light_serving import Outputs, Row, Settings, answer, to_json


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.rank = {"text-ranking": self.rank_texts, "zero-shot-classification": self.rank_hypotheses}.get(
            self.settings.task, self.rank_labels
        )
        self.entailment = int(self.settings.values.get("entailment", 0))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row], **parameters: Any) -> list[Outputs]:
        return [self.rank(sample, parameters) for sample in samples]

    def rank_labels(self, sample: Row, parameters: dict[str, Any]) -> Outputs:
        labels = all_texts(sample["labels"])
        pairs = sorted(zip(sample["probs"].tolist(), labels, strict=False), key=lambda pair: -pair[0])
        return {"json": to_json([{"score": score, "label": label} for score, label in pairs])}

    def rank_texts(self, sample: Row, parameters: dict[str, Any]) -> Outputs:
        texts = all_texts(sample["text"])
        scores = sample["scores"][: len(texts)]
        order = np.argsort(-scores, kind="stable")[: parameters.get("top_k")].tolist()
        ranked = [{"index": index, "score": float(scores[index]), "text": texts[index]} for index in order]
        return {"json": to_json(ranked)}

    def rank_hypotheses(self, sample: Row, parameters: dict[str, Any]) -> Outputs:
        labels = all_texts(sample["labels"])
        logits = sample["logits"][: len(labels)]
        if parameters.get("multi_label") or len(labels) == 1:  # each label on its own: yes against no
            contradiction = -1 if self.entailment == 0 else 0
            scores = softmax(logits[:, [contradiction, self.entailment]])[:, 1]
        else:
            scores = softmax(logits[:, self.entailment])
        order = list(reversed(scores.argsort()))
        ranked = {"labels": [labels[index] for index in order], "scores": scores[order].tolist()}
        return {**ranked, "json": to_json({"sequence": one_text(sample["text"]), **ranked})}
