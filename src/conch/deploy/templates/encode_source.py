"""Turn a text that is to be written anew into tokens with transformers' own tokenizer of the checkpoint.

`text` -> `input_ids`, `attention_mask` [tokens]
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import transformers
from hf_serving import Outputs, Row, Settings, answer
from hf_text import check_lengths
from hf_text_to_text import Reader, load_tokenizer
from light_inputs import one_text
from light_languages import Languages


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        tokenizer = load_tokenizer(self.settings)
        trusted = self.settings.values.get("trust_remote_code") == "true"
        config = transformers.AutoConfig.from_pretrained(self.settings.checkpoint, trust_remote_code=trusted)
        self.model = SimpleNamespace(config=config)
        self.reader = Reader(tokenizer, Languages(self.settings.values))
        self.settings.fill["input_ids"] = tokenizer.pad_token_id or 0

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> str:
        return one_text(row["text"])

    def infer(
        self,
        samples: list[str],
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        truncation: bool | None = None,
        **_: Any,
    ) -> list[Outputs]:
        encodings = self.reader.encode(samples, src_lang, tgt_lang, truncation)
        check_lengths(encodings, self.model, self.reader.tokenizer)
        return [{name: tensor[0] for name, tensor in encoding.items()} for encoding in encodings]
