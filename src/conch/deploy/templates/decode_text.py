"""Make texts of generated tokens: `text` (the prompt), `new_tokens` [sequences, tokens] -> `generated_text`, `json`."""

from __future__ import annotations

from typing import Any

from light_inputs import one_text
from light_outputs import generated
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
        prompt = one_text(sample["text"]) if full else ""
        # -1 pads sequences of unequal length.
        texts = [self.encoder.decode(tokens[tokens >= 0].tolist(), skip) for tokens in sample["new_tokens"]]
        return generated([{"generated_text": prompt + text} for text in texts])
