"""Classify texts, or score pairs of texts, with a sequence classification model.

text-classification: `text` (and `text_pair`) -> `logits`, `probs`, `label`
zero-shot-classification: `text`, `candidate_labels` -> `labels`, `scores`, best first
text-ranking: `query`, `text` -> `scores`, one a text, in the order of `text`
"""

from __future__ import annotations

from typing import Any

import torch
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, stage_parameters, to_json
from hf_text import check_lengths, forward_texts, settle_padding
from light_inputs import all_texts, one_text
from light_outputs import text_classes


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        ranking = self.settings.task == "text-ranking"
        self.pipe = load_pipeline(self.settings, "text-classification" if ranking else None)
        settle_padding(self.pipe.model, self.pipe.tokenizer, self.settings)
        self.decode, self.infer = {
            "text-classification": (self.decode_text, self.classify),
            "zero-shot-classification": (self.decode_candidates, self.classify_zero_shot),
            "text-ranking": (self.decode_ranking, self.rank),
        }[self.settings.task]

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def forward(self, encodings: list[Any]) -> list[dict[str, torch.Tensor]]:
        check_lengths(encodings, self.pipe.model, self.pipe.tokenizer)
        return forward_texts(self.pipe.model, self.pipe.tokenizer, encodings, self.settings.max_padding)

    # text-classification

    def decode_text(self, row: Row) -> str | dict[str, str]:
        text = one_text(row["text"])
        return {"text": text, "text_pair": one_text(row["text_pair"])} if "text_pair" in row else text

    def classify(self, samples: list[Any], **parameters: Any) -> list[Outputs]:
        preprocess, _, postprocess = stage_parameters(self.pipe, parameters)
        outputs = self.forward([self.pipe.preprocess(sample, **preprocess) for sample in samples])
        return [text_classes(self.pipe, output, postprocess) for output in outputs]

    # zero-shot-classification

    def decode_candidates(self, row: Row) -> tuple[str, list[str]]:
        return one_text(row["text"]), all_texts(row["candidate_labels"])

    def classify_zero_shot(self, samples: list[tuple[str, list[str]]], **parameters: Any) -> list[Outputs]:
        preprocess, _, postprocess = stage_parameters(self.pipe, parameters)
        pairs = [
            list(self.pipe.preprocess(text, **{**preprocess, "candidate_labels": labels})) for text, labels in samples
        ]
        outputs = iter(self.forward([pair for one in pairs for pair in one]))
        results = []
        for one in pairs:
            result = self.pipe.postprocess([{**pair, **next(outputs)} for pair in one], **postprocess)
            results.append({"labels": result["labels"], "scores": result["scores"], "json": to_json(result)})
        return results

    # text-ranking

    def decode_ranking(self, row: Row) -> tuple[str, list[str]]:
        return one_text(row["query"]), all_texts(row["text"])

    def rank(self, samples: list[tuple[str, list[str]]], top_k: int | None = None) -> list[Outputs]:
        encode = self.pipe.tokenizer
        pairs = [encode(query, text, truncation=True, return_tensors="pt") for query, each in samples for text in each]
        outputs = iter(forward_texts(self.pipe.model, encode, pairs, self.settings.max_padding))
        results = []
        for _, each in samples:
            scores = torch.cat([next(outputs)["logits"] for _ in each]).float()[:, 0]
            if self.settings.values["activation"] == "sigmoid":
                scores = scores.sigmoid()
            order = scores.argsort(descending=True)[:top_k].tolist()
            ranked = [{"index": index, "score": scores[index].item(), "text": each[index]} for index in order]
            results.append({"scores": scores, "json": to_json(ranked)})
        return results
