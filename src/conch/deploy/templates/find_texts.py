"""Find what texts say: `logits` [places, texts], `pred_boxes`, `image_size`, `text` -> the outputs of
zero-shot-object-detection.

`detection_settings.json` beside model.py says how scores are made, in the words of `light_detection.py`.
"""

from __future__ import annotations

from typing import Any

from light_detection import detect, named
from light_inputs import all_texts
from light_outputs import boxes
from light_serving import Outputs, Row, Settings, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.how = self.settings.read_json("detection_settings.json")

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row], threshold: float = 0.1, top_k: int | None = None) -> list[Outputs]:
        return [boxes(self.find(sample, threshold)[: top_k or None]) for sample in samples]

    def find(self, sample: Row, threshold: float) -> list[dict[str, Any]]:
        """What was found of each text, the surest first."""
        labels = all_texts(sample["text"])
        found: list[dict[str, Any]] = []
        for number, label in enumerate(labels):
            logits = sample["logits"][:, number : number + 1]
            seen = detect(logits, sample["pred_boxes"], sample["image_size"], threshold, **self.how)
            found += [each for each in named(seen, [label]) if each["score"]]
        return sorted(found, key=lambda each: each["score"], reverse=True)
