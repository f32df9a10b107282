"""Name and place what a network saw: `logits`, `pred_boxes`, `image_size` -> the outputs of object-detection.

`labels.json` beside model.py is the list of the names of the classes; `detection_settings.json` says how scores are
made, in the words of `light_detection.py`.
"""

from __future__ import annotations

from typing import Any

from light_detection import detect, named
from light_outputs import boxes
from light_rows import bring_back
from light_serving import Outputs, Row, Settings, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.labels = self.settings.read_json("labels.json")
        self.how = self.settings.read_json("detection_settings.json")

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row], threshold: float = 0.5) -> list[Outputs]:
        return [self.find(sample, threshold) for (sample,) in bring_back(self.settings, samples)]

    def find(self, sample: Row, threshold: float) -> Outputs:
        found = detect(sample["logits"], sample["pred_boxes"], sample["image_size"], threshold, **self.how)
        return boxes(named(found, self.labels))
