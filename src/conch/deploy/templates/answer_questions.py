"""Logits of the options of questions -> their probabilities, and the answers.

`logits` [prompts, places, options], `context` -> `questions`, `answers` (JSON), `json`. The answer to a question of
each type has the form of transformers' decision pipeline.
"""

from __future__ import annotations

import json
from typing import Any

from light_scores import softmax
from light_serving import Outputs, Row, Settings, answer, to_json


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row], **parameters: Any) -> list[Outputs]:
        return [decide(sample) for sample in samples]


def decide(sample: Row) -> Outputs:
    """The answers to the questions of all prompts; what is padding in `logits` belongs to none."""
    answers = {}
    for logits, questions in zip(sample["logits"], json.loads(sample["context"][0]), strict=False):
        for places, question in zip(logits, questions, strict=False):
            scores = softmax(places[: len(question["options"])] / question["temperature"])
            answers[question["name"]] = answered(question, scores.tolist())
    return {
        "questions": list(answers),
        "answers": [json.dumps(each) for each in answers.values()],
        "json": to_json(answers),
    }


def answered(question: dict[str, Any], probabilities: list[float]) -> dict[str, Any]:
    """The answer to a question: for yes or no the probability of yes; else the likeliest option, and how sure it is.

    A choice is as sure as its probability lies above chance; a score is as sure as the levels lie near the likeliest,
    compared with levels that are all as likely.
    """
    options, count = question["options"], len(probabilities)
    by_option = dict(zip(options, probabilities, strict=True))
    if question["type"] == "noul":
        return {"type": "noul", "noul": by_option["true"]}
    best = max(range(count), key=probabilities.__getitem__)
    if question["type"] == "choice":
        chance = 1 / count
        sure = 1.0 if count == 1 else max(0.0, (probabilities[best] - chance) / (1 - chance))
        return {"type": "choice", "choice": options[best], "confidence": sure, "probabilities": by_option}
    away = sum(probability * abs(level - best) for level, probability in enumerate(probabilities))
    away_by_chance = sum(abs(level - (count - 1) / 2) for level in range(count)) / count
    return {
        "type": "score",
        "score": sum(level * probability for level, probability in enumerate(probabilities)),
        "legend": dict(zip(options, question["descriptions"], strict=True)),
        "confidence": 1.0 if count == 1 else max(0.0, 1 - away / away_by_chance),
        "probabilities": by_option,
    }
