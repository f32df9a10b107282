"""Say which pixels belong to what: what a network said, `image_size` -> the outputs of image-segmentation.

`labels.json` beside model.py is the list of the names of the classes; `segmentation_settings.json` says how segments
are made, in the words of `light_segmentation.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_outputs import segments
from light_rows import bring_back
from light_segmentation import Limits, find, find_parts
from light_serving import Outputs, Row, Settings, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.labels = self.settings.read_json("labels.json")
        self.how = self.settings.read_json("segmentation_settings.json")

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(
        self,
        samples: list[Row],
        subtask: str | None = None,
        threshold: float = 0.9,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.5,
    ) -> list[Outputs]:
        limits = Limits(threshold, mask_threshold, overlap_mask_area_threshold)
        return [self.find(rows, subtask, limits) for rows in bring_back(self.settings, samples)]

    def find(self, rows: list[Row], subtask: str | None, limits: Limits) -> Outputs:
        height, width = rows[0]["image_size"].tolist()
        if "split" in self.how:
            found = find_parts(rows, height, width, subtask, limits, **self.how)
        else:
            found = find(rows[0], height, width, subtask, limits, **self.how)
        named = [
            {"score": each.score, "label": self.labels[each.kind], "mask": each.mask.astype(np.uint8) * 255}
            for each in found
        ]
        return segments(named, height, width)
