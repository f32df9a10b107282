"""Turn images into what a network of images takes.

`image` -> of these what config.pbtxt names: `pixel_values` [3, height, width], `pixel_mask` [height, width],
`image_size` [2], height and width of the image as it came, and `activation` [1], what the request wants of the network.
The further parts of an image that is cut are carried by `light_rows.py`.
"""

from __future__ import annotations

from typing import Any

from light_image import ImageProcessor
from light_inputs import one_image
from light_rows import FURTHER, prepare
from light_serving import Outputs, Row, Settings, activation, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        prepare(self.settings)
        self.processor = ImageProcessor(self.settings.read_json("image_settings.json"))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Outputs:
        image = one_image(row["image"])
        first, *further = self.processor.parts(image)
        return {**first, "image_size": [image.height, image.width], FURTHER: further}

    def infer(self, samples: list[Outputs], function_to_apply: str | None = None, **_: Any) -> list[Outputs]:
        code = activation(self.settings, function_to_apply)
        return [{**sample, "activation": code} for sample in samples]
