"""Make texts of tokens: `text` or `messages`, `new_tokens` [sequences, tokens] -> `generated_text`, `json`.

Of a text that was written of another, `new_tokens` is all that matters, and the output is called as its task calls it.
"""

from __future__ import annotations

import json
from typing import Any

from light_inputs import one_text
from light_languages import WRITTEN
from light_outputs import generated, written
from light_serving import Outputs, Row, Settings, answer
from light_text import TextEncoder


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.encoder = TextEncoder(self.settings.version, self.settings.read_json("tokenizer_settings.json"))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(
        self,
        samples: list[Row],
        return_full_text: bool | None = None,
        skip_special_tokens: bool | None = None,
        **_: Any,
    ) -> list[Outputs]:
        full = return_full_text is None or return_full_text
        skip = skip_special_tokens is None or skip_special_tokens
        return [self.texts(sample, full, skip) for sample in samples]

    def texts(self, sample: Row, full: bool, skip: bool) -> Outputs:
        # -1 pads sequences of unequal length.
        texts = [self.encoder.decode(tokens[tokens >= 0].tolist(), skip) for tokens in sample["new_tokens"]]
        if self.settings.task in WRITTEN:
            return written(WRITTEN[self.settings.task], texts)
        if not full:
            return generated([{"generated_text": text} for text in texts])
        if "messages" in sample:
            messages = json.loads(one_text(sample["messages"]))
            return generated([{"generated_text": answered(messages, text)} for text in texts])
        prompt = one_text(sample["text"])
        return generated([{"generated_text": prompt + text} for text in texts])


def answered(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The conversation with its answer; one that ends with the beginning of an answer has it continued."""
    last = messages[-1]
    if last["role"] != "assistant":
        return [*messages, {"role": "assistant", "content": text}]
    if not isinstance(last["content"], str):
        raise ValueError("an answer to be continued should be text")
    # Beside role and content, a message keeps nothing: so do the library's pipelines.
    return [*messages[:-1], {"role": last["role"], "content": last["content"] + text}]
