"""Turn questions about pages into what a network takes that looks at the page and writes the answer (Donut).

`question`, `image` -> `inputs` [3, height, width], `decoder_input_ids` [tokens]: what the answer begins with, which is
the setting `prompt` with the question in place of "{}"; -1 is padding.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from light_image import ImageProcessor
from light_inputs import one_document
from light_serving import Outputs, Row, Settings, answer
from light_text import TextEncoder


class Sample(NamedTuple):
    pixels: np.ndarray
    prompt: str


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # The library's threads would compete with the engine for the cores, and a question takes a millisecond.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.settings = Settings(args)
        self.encoder = TextEncoder(self.settings.version, self.settings.read_json("tokenizer_settings.json"))
        self.encoder.may_be_cut = False
        self.processor = ImageProcessor(self.settings.read_json("image_settings.json"))
        self.prompt = self.settings.values["prompt"]
        self.settings.fill["decoder_input_ids"] = -1

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Sample:
        document = one_document(row)
        if "image" not in document:
            raise ValueError("expected the input `image`: the model reads the page itself")
        pixels = self.processor(document["image"])["pixel_values"]
        return Sample(pixels, self.prompt.replace("{}", document["question"]))

    def infer(self, samples: list[Sample], **_: Any) -> list[Outputs | Exception]:
        encodings = self.encoder.encode([sample.prompt for sample in samples], special=False)
        return [self.outputs(*pair) for pair in zip(samples, encodings, strict=True)]

    def outputs(self, sample: Sample, encoding: Any) -> Outputs | Exception:
        try:
            self.encoder.check_length([encoding])
        except ValueError as error:
            return error
        return {"inputs": sample.pixels, "decoder_input_ids": encoding.ids}
