"""Turn prompts about images into what a model that looks and writes takes.

`text` or `messages`, and `image` [n] -> `input_ids`, `attention_mask` [tokens], padded on the left; `pixel_values`
[n, 3, height, width]; `images` [1], how many of these are images: rows of one request may have unequal numbers, and
with the setting `some_pixels` a prompt without images has black ones, for an encoder that must be given some.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import numpy as np
from light_chat import ChatTemplate
from light_generation import check_one_prompt, fill_messages
from light_image import ImageProcessor
from light_inputs import all_images, one_text
from light_serving import Outputs, Row, Settings, answer
from light_text import TextEncoder


class Prompt(NamedTuple):
    text: str
    special: bool  # whether the tokenizer adds special tokens; a chat template may have put them in
    pixels: np.ndarray
    images: int  # how many of `pixels` are images


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # The library's threads would compete with the model for the cores, and a batch of texts takes a millisecond.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.settings = Settings(args)
        values = self.settings.values
        self.encoder = TextEncoder(self.settings.version, self.settings.read_json("tokenizer_settings.json"))
        self.chat = ChatTemplate(**self.settings.read_json("chat.json"))
        self.processor = ImageProcessor(self.settings.read_json("image_settings.json"))
        self.nothing = np.zeros([int("some_pixels" in values), 3, *map(int, values["image_size"].split())], np.float32)
        self.image_token = values.get("image_token", "")
        self.expanded = self.image_token * int(values.get("image_tokens", 1))
        self.settings.fill.update(self.encoder.fill)
        self.settings.fill_left = frozenset(self.encoder.fill)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Prompt:
        check_one_prompt(row)
        images = all_images(row["image"]) if "image" in row else []
        pixels = np.stack([self.processor(image)["pixel_values"] for image in images]) if images else self.nothing
        if "text" in row:
            return Prompt(self.expand(one_text(row["text"])), True, pixels, len(images))
        messages = fill_messages(json.loads(one_text(row["messages"])), ["image"] * len(images), [])
        prompt = self.chat.prompt(messages)
        begins = self.chat.special_tokens.get("bos_token")
        return Prompt(self.expand(prompt), not (begins and prompt.startswith(begins)), pixels, len(images))

    def expand(self, text: str) -> str:
        """The text with as many tokens for each image as the model sees patches of it."""
        return text.replace(self.image_token, self.expanded) if self.image_token else text

    def infer(self, samples: list[Prompt], **_: Any) -> list[Outputs]:
        encodings = self.encoder.encode_each(
            [sample.text for sample in samples], [sample.special for sample in samples]
        )
        return [
            {
                "input_ids": encoding.ids,
                "attention_mask": encoding.attention_mask,
                "pixel_values": sample.pixels,
                "images": [sample.images],
            }
            for sample, encoding in zip(samples, encodings, strict=True)
        ]
