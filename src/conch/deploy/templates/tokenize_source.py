"""Turn a text that is to be written anew into tokens: `text` -> `input_ids`, `attention_mask` [tokens].

`languages.json` says which tokens mark the language of a text: {"own": code, "marks": {code: [before, after]}}. Without
it the tokenizer adds its special tokens itself, which is `tokenizer.json` or, with `sentencepiece.json`, pieces.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from light_inputs import one_text
from light_languages import Languages, mark
from light_sentencepiece import SentencePieceTokenizer
from light_serving import Outputs, Settings, answer
from light_text import TextEncoder


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # The library's threads would compete with the model for the cores, and a batch of texts takes a millisecond.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.settings = Settings(args)
        directory = Path(self.settings.version)
        cuts_pieces = Path(directory, "sentencepiece.json").is_file()
        tokenizer = SentencePieceTokenizer(directory) if cuts_pieces else None
        self.encoder = TextEncoder(directory, self.settings.read_json("tokenizer_settings.json"), tokenizer)
        self.encoder.may_be_cut = "truncation" in self.settings.parameter_kinds
        self.languages = Languages(self.settings.values)
        marked = Path(self.settings.version, "languages.json").is_file()
        self.marks = self.settings.read_json("languages.json") if marked else None
        self.settings.fill.update(self.encoder.fill)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: one_text(row["text"]), self.infer)

    def infer(
        self,
        samples: list[str],
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        truncation: bool | None = None,
        **_: Any,
    ) -> list[Outputs | Exception]:
        before = self.languages.before(src_lang, tgt_lang)
        texts = [before + text for text in samples]
        outcomes: list[Outputs | Exception] = []
        for ids in self.tokens(texts, src_lang, "longest_first" if truncation else None):
            if self.encoder.limit and len(ids) > self.encoder.limit:
                outcomes.append(ValueError(self.encoder.too_long(len(ids))))
            else:
                outcomes.append({"input_ids": ids, "attention_mask": np.ones(len(ids), np.int64)})
        return outcomes

    def tokens(self, texts: list[str], src_lang: str | None, truncation: str | None) -> list[list[int]]:
        if self.marks is None:
            return [encoding.ids for encoding in self.encoder.encode(texts, truncation)]
        before, after = self.marks["marks"][src_lang or self.marks["own"]]
        return mark(self.encoder, texts, before, after, truncation)
