"""Turn images into what a network that looks for things takes.

`image` -> `pixel_values` [3, height, width] of the whole image, and `image_size` [2], height and width of it as it
came; the pixels of its crops are carried by `light_rows.py`.
"""

from __future__ import annotations

from typing import Any

from light_crops import crop_boxes
from light_image import ImageProcessor
from light_inputs import one_image
from light_rows import FURTHER, prepare
from light_serving import Outputs, Row, Settings, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        prepare(self.settings)
        self.processor = ImageProcessor(self.settings.read_json("image_settings.json"))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Any:
        return one_image(row["image"])

    def infer(self, samples: list[Any], crops_n_layers: int = 0, **_: Any) -> list[Outputs]:
        return [self.process(image, crops_n_layers) for image in samples]

    def process(self, image: Any, layers: int) -> Outputs:
        whole, *crops = [self.processor(image.crop(box)) for box in crop_boxes(image.height, image.width, layers)]
        return {**whole, "image_size": [image.height, image.width], FURTHER: crops}
