"""Tasks whose pipelines do several steps of their own for each sample; samples run one after the other.

zero-shot-object-detection: `image`, `text` [n] -> `boxes`, `scores`, `labels`
keypoint-matching: `image` [2] -> `keypoints0`, `keypoints1` [n, (x, y)], `scores`
document-question-answering: `question`, `image` and/or `word_boxes` (JSON) -> `answer`, `scores`, `start`, `end`
table-question-answering: `query`, `table` (JSON) -> `answer`, `cells`, `coordinates`, `aggregator`
decision: `request` (JSON) -> `questions`, `answers` (JSON)
text-to-audio: `text`, of some models `speaker_embeddings` -> `audio`, `sampling_rate`
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from hf_serving import Outputs, Row, Settings, answer, check_length, load_pipeline, seeded, to_json
from light_inputs import decode_request, image_pair, labelled_image, one_document, one_text
from light_outputs import answers, boxes, keypoints


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        self.decode, self.run = {
            "zero-shot-object-detection": (labelled_image, self.detect),
            "keypoint-matching": (lambda row: image_pair(row["image"]), self.match_keypoints),
            "document-question-answering": (one_document, self.ask_document),
            "table-question-answering": (decode_table, self.ask_table),
            "decision": (decode_request, self.decide),
            "text-to-audio": (lambda row: row, self.speak),
        }[self.settings.task]

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def infer(self, samples: list[Any], **parameters: Any) -> list[Outputs | Exception]:
        outcomes: list[Outputs | Exception] = []
        for sample in samples:
            try:
                outcomes.append(self.run(sample, **parameters))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    def detect(self, sample: tuple[Any, list[str]], **parameters: Any) -> Outputs:
        image, labels = sample
        return boxes(self.pipe(image, candidate_labels=labels, **parameters))

    def match_keypoints(self, images: list[Any], **parameters: Any) -> Outputs:
        return keypoints(self.pipe(images, **parameters))

    def ask_document(self, sample: dict[str, Any], **parameters: Any) -> Outputs:
        return answers(self.pipe(sample, **parameters))

    def ask_table(self, sample: dict[str, Any], **parameters: Any) -> Outputs:
        result = self.pipe(sample, **parameters)
        return {
            "answer": [result["answer"]],
            "cells": result.get("cells", []),
            "coordinates": np.array(result.get("coordinates", []), np.int64).reshape(-1, 2),
            "aggregator": [result.get("aggregator", "")],
            "json": to_json(result),
        }

    def decide(self, request: dict[str, Any]) -> Outputs:
        answers = self.pipe(request)
        return {
            "questions": list(answers),
            "answers": [json.dumps(each) for each in answers.values()],
            "json": to_json(answers),
        }

    def speak(
        self,
        row: Row,
        generate_kwargs: dict[str, Any] | None = None,
        speaker_id: int | None = None,
        seed: int | None = None,
    ) -> Outputs:
        forward: dict[str, Any] = {} if speaker_id is None else {"speaker_id": speaker_id}
        if "speaker_embeddings" in row:
            forward["speaker_embeddings"] = torch.tensor(row["speaker_embeddings"], dtype=self.pipe.model.dtype)[None]
        text = one_text(row["text"])
        if "speaker_embeddings" in row:  # its model has positions for so many letters alone
            check_length(self.pipe.model, len(self.pipe.tokenizer(text)["input_ids"]))
        with seeded(seed):
            result = self.pipe(text, forward_params=forward, generate_kwargs=generate_kwargs)
        audio = torch.as_tensor(result["audio"]).float()
        mono = audio if audio.dim() < 2 else audio.mean(dim=0)
        return {"audio": mono.flatten(), "sampling_rate": [result["sampling_rate"]]}


def decode_table(row: Row) -> dict[str, Any]:
    return {"table": json.loads(one_text(row["table"])), "query": one_text(row["query"])}
