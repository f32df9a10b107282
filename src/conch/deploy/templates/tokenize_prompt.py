"""Turn prompts and conversations into tokens: `text` or `messages` -> `input_ids`, `attention_mask` [tokens].

Rows of unequal length are padded on the left, where `attention_mask` is 0.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from light_chat import ChatTemplate
from light_generation import decode_prompt, read_tools
from light_serving import Outputs, Row, Settings, answer
from light_text import TextEncoder


class Prompt(NamedTuple):
    text: str  # "" of a conversation, whose template wants to know the tools first
    messages: list[dict[str, Any]] | None

    @property
    def special(self) -> bool:
        """Whether the tokenizer adds special tokens; a chat template has put them in."""
        return self.messages is None


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # The library's threads would compete with the model for the cores, and a batch of texts takes a millisecond.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.settings = Settings(args)
        self.encoder = TextEncoder(self.settings.version, self.settings.read_json("tokenizer_settings.json"))
        self.chat = ChatTemplate(**self.settings.read_json("chat.json"))
        self.settings.fill.update(self.encoder.fill)
        self.settings.fill_left = frozenset(self.encoder.fill)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Prompt:
        prompt = decode_prompt(row, 0)
        return Prompt(prompt.get("text", ""), prompt.get("messages"))

    def infer(
        self, samples: list[Prompt], truncation: bool | None = None, tools: str | None = None, **_: Any
    ) -> list[Outputs]:
        offered = read_tools(tools)
        texts, special = [self.text(sample, offered) for sample in samples], [sample.special for sample in samples]
        encodings = self.encoder.encode_each(texts, special, "longest_first" if truncation else None)
        return [{"input_ids": each.ids, "attention_mask": each.attention_mask} for each in encodings]

    def text(self, prompt: Prompt, tools: list[dict[str, Any]] | None) -> str:
        return prompt.text if prompt.messages is None else self.chat.prompt(prompt.messages, tools)
