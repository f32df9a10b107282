"""Say something about the tokens of a text.

token-classification: `text` -> `labels`, `scores`, `words`, `start`, `end`, one entry an entity
fill-mask: `text` -> `tokens`, `token_strings`, `scores`, `sequences`, [masks in the text, top_k] each
"""

from __future__ import annotations

from typing import Any

from hf_serving import Outputs, Row, Settings, answer, load_pipeline, stage_parameters
from hf_text import check_lengths, forward_texts, settle_padding
from light_inputs import one_text
from light_outputs import entities, filled_masks


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        settle_padding(self.pipe.model, self.pipe.tokenizer, self.settings)
        self.infer = {"token-classification": self.classify_tokens, "fill-mask": self.fill_mask}[self.settings.task]

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> str:
        return one_text(row["text"])

    def forward(self, encodings: list[Any]) -> list[dict[str, Any]]:
        check_lengths(encodings, self.pipe.model, self.pipe.tokenizer)
        return forward_texts(self.pipe.model, self.pipe.tokenizer, encodings, self.settings.max_padding)

    def classify_tokens(self, samples: list[str], **parameters: Any) -> list[Outputs]:
        preprocess, _, postprocess = stage_parameters(self.pipe, parameters)
        chunks = [list(self.pipe.preprocess(text, **preprocess)) for text in samples]
        outputs = iter(self.forward([chunk for each in chunks for chunk in each]))
        results: list[Outputs] = []
        for each in chunks:
            parts = [{"offset_mapping": None, **chunk, "logits": next(outputs)["logits"]} for chunk in each]
            results.append(entities(self.pipe.postprocess(parts, **postprocess)))
        return results

    def fill_mask(self, samples: list[str], **parameters: Any) -> list[Outputs]:
        preprocess, _, postprocess = stage_parameters(self.pipe, parameters)
        if "top_k" in postprocess:
            postprocess["top_k"] = min(postprocess["top_k"], self.pipe.model.config.vocab_size)
        encodings = [dict(self.pipe.preprocess(text, **preprocess)) for text in samples]
        outputs = zip(encodings, self.forward(encodings), strict=True)
        return [
            filled_masks(self.pipe, {**output, "input_ids": encoding["input_ids"]}, postprocess)
            for encoding, output in outputs
        ]
