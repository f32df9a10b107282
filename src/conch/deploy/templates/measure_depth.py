"""Bring depth to the size of the image: `predicted_depth`, `image_size` -> the outputs of depth-estimation.

`depth_settings.json` beside model.py says how wide a border the preprocess put around the image (`light_resize.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_resize import resize_depth
from light_rows import bring_back
from light_serving import Outputs, Row, Settings, answer, to_json


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.border = self.settings.read_json("depth_settings.json")["border"]

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row]) -> list[Outputs]:
        return [self.measure(sample) for (sample,) in bring_back(self.settings, samples)]

    def measure(self, sample: Row) -> Outputs:
        height, width = sample["image_size"].tolist()
        depth = resize_depth(sample["predicted_depth"], height, width, self.border)
        image = as_image(depth)
        return {"depth": depth, "depth_image": image, "json": to_json({"predicted_depth": depth, "depth": image})}


def as_image(depth: np.ndarray) -> np.ndarray:
    """The smallest depth as 0, the largest as 255; a plane is black."""
    lowest, highest = depth.min(), depth.max()
    shares = (depth - lowest) / (highest - lowest if highest > lowest else np.float32(1))
    return (shares * 255).astype(np.uint8)
