"""Turn images into what a network of images takes.

`image` -> of these what config.pbtxt names: `pixel_values` [3, height, width], `pixel_mask` [height, width],
`image_size` [2], height and width of the image as it came, `activation` [1], what the request wants of the network, and
`task_inputs` [tokens], the subtask in words, of which `subtask_tokens.json` beside model.py has the tokens.
The further parts of an image that is cut are carried by `light_rows.py`.
"""

from __future__ import annotations

from typing import Any

from light_image import ImageProcessor
from light_inputs import one_image
from light_rows import FURTHER, prepare
from light_serving import Outputs, Row, Settings, activation, answer
from light_subtasks import chosen_subtask


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        prepare(self.settings)
        self.processor = ImageProcessor(self.settings.read_json("image_settings.json"))
        told = "task_inputs" in self.settings.output_types
        self.tokens: dict[str, list[int]] = self.settings.read_json("subtask_tokens.json") if told else {}

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Outputs:
        image = one_image(row["image"])
        first, *further = self.processor.parts(image)
        return {**first, "image_size": [image.height, image.width], FURTHER: further}

    def infer(
        self, samples: list[Outputs], function_to_apply: str | None = None, subtask: str | None = None, **_: Any
    ) -> list[Outputs]:
        more: Outputs = {"activation": activation(self.settings, function_to_apply)}
        if self.tokens:
            more["task_inputs"] = self.tokens[chosen_subtask(subtask, list(self.tokens))]
        return [{**sample, **more} for sample in samples]
