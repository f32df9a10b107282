"""mask-generation, the masks of all things in an image: `image` -> `masks` [n, height, width] of 0 and 255, `scores`.

Images run one after the other: the pipeline makes batches of the points of each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hf_masks import complete_processor
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, to_json
from light_inputs import one_image


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        complete_processor(self.pipe.image_processor)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Any:
        return one_image(row["image"])

    def infer(self, samples: list[Any], **parameters: Any) -> list[Outputs | Exception]:
        outcomes: list[Outputs | Exception] = []
        for sample in samples:
            try:
                outcomes.append(self.find(sample, parameters))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    def find(self, image: Any, parameters: dict[str, Any]) -> Outputs:
        result = self.pipe(image, **parameters)
        masks = np.array([np.asarray(mask) for mask in result["masks"]], bool).reshape(-1, image.height, image.width)
        return {"masks": masks.astype(np.uint8) * 255, "scores": result["scores"], "json": to_json(result)}
