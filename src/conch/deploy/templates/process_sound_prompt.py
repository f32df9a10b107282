"""Turn prompts about sounds into what a model that hears and writes takes (Qwen2-Audio).

`text` or `messages`, and `audio` [n] -> `input_ids`, `attention_mask` [tokens], padded on the left; `input_features`
[n, bands, frames] and `feature_attention_mask` [n, frames]; `sounds` [1], how many of these are sounds: rows of one
request may have unequal numbers. The setting `audio_token` stands for a sound in a text; the model takes as many of it
as the sound is long.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import numpy as np
from light_audio import AudioProcessor
from light_chat import ChatTemplate
from light_generation import check_one_prompt, fill_messages
from light_inputs import all_sounds, one_text
from light_serving import Outputs, Row, Settings, answer
from light_sound_prompts import SoundPrompts
from light_text import TextEncoder


class Prompt(NamedTuple):
    text: str
    special: bool  # whether the tokenizer adds special tokens; a chat template may have put them in
    features: np.ndarray
    mask: np.ndarray
    sounds: int  # how many there are


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # The library's threads would compete with the model for the cores, and a batch of texts takes a millisecond.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.settings = Settings(args)
        self.encoder = TextEncoder(self.settings.version, self.settings.read_json("tokenizer_settings.json"))
        self.chat = ChatTemplate(**self.settings.read_json("chat.json"))
        self.prompts = SoundPrompts(AudioProcessor.read(self.settings.version), self.settings.values["audio_token"])
        self.settings.fill.update(self.encoder.fill)
        self.settings.fill_left = frozenset(self.encoder.fill)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Prompt:
        check_one_prompt(row)
        if "image" in row:
            raise ValueError("the model hears and does not see: leave the input `image` out")
        sounds = all_sounds(row, self.prompts.processor.sampling_rate)
        features, mask = self.prompts.features(sounds)
        if "text" in row:
            return Prompt(self.prompts.expand(one_text(row["text"]), mask), True, features, mask, len(sounds))
        messages = fill_messages(json.loads(one_text(row["messages"])), [], ["audio"] * len(sounds))
        prompt = self.chat.prompt(messages)
        begins = self.chat.special_tokens.get("bos_token")
        special = not (begins and prompt.startswith(begins))
        return Prompt(self.prompts.expand(prompt, mask), special, features, mask, len(sounds))

    def infer(self, samples: list[Prompt], **_: Any) -> list[Outputs]:
        encodings = self.encoder.encode_each(
            [sample.text for sample in samples], [sample.special for sample in samples]
        )
        return [
            {
                "input_ids": encoding.ids,
                "attention_mask": encoding.attention_mask,
                "input_features": sample.features,
                "feature_attention_mask": sample.mask,
                "sounds": [sample.sounds],
            }
            for sample, encoding in zip(samples, encodings, strict=True)
        ]
