"""The parts around the network of a decision ask and answer as transformers' pipeline does."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.errors import BackendError, Code
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import load_part, text_rows

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
decision = pytest.importorskip("transformers.decision", reason="transformers before 5.24 decides nothing")
decision_models = pytest.importorskip("transformers.decision.modeling_utils")

tokenization = pytest.importorskip("tests.checkpoints.tokenization")

QUESTIONS: dict[str, Any] = {
    "refund": {"type": "noul", "instructions": "Is a refund requested?"},
    "topic": {"type": "choice", "criteria": {"billing": "money", "delivery": None, "other": "anything else"}},
    "mood": {"type": "score", "criteria": ["calm", "annoyed", "furious", {"not": "said"}]},
    "only": {"type": "choice", "criteria": {"one": None}},
    "flat": {"type": "score", "criteria": ["one level"]},
}
#: All questions in one prompt, read after each of them.
TOGETHER = "{{ state }}{% for question in questions %} {{ question.instructions }}?<|mark|>{% endfor %}"
TOKENS = {
    "input_ids": "TYPE_INT64 -1 -1",
    "attention_mask": "TYPE_INT64 -1 -1",
    "marks": "TYPE_INT64 -1 -1",
    "labels": "TYPE_INT64 -1 -1 -1",
    "context": "TYPE_STRING 1",
}
ANSWERS = {"questions": "TYPE_STRING -1", "answers": "TYPE_STRING -1", "json": "TYPE_STRING 1"}
SETTINGS = {"task": "decision", "request_parameters": ""}


def asking(directory: Path, config: Any) -> LocalModel:
    checkpoint = directory / "checkpoint"
    tokenization.chat().save_pretrained(checkpoint)
    config.save_pretrained(checkpoint)
    inputs = {"request": "TYPE_STRING 1"}
    return load_part(directory, "ask_questions.py", inputs, TOKENS, SETTINGS, checkpoint=checkpoint)


def answering(directory: Path) -> LocalModel:
    inputs = {"logits": "TYPE_FP32 -1 -1 -1", "context": "TYPE_STRING 1"}
    return load_part(directory, "answer_questions.py", inputs, ANSWERS, SETTINGS)


def described(config: Any, *groups: list[str]) -> tuple[list[list[Any]], bytes]:
    """The questions of each prompt, and what the one part tells the other of them."""
    parsed = {each.name: each for each in decision.parse_questions(QUESTIONS, config)}
    prompts = [[parsed[name] for name in group] for group in groups]
    keys = ("name", "type", "options", "descriptions")
    context = [
        [
            {key: asdict(each)[key] for key in keys} | {"temperature": config.temperature.get(each.type, 1.0)}
            for each in of
        ]
        for of in prompts
    ]
    return prompts, json.dumps(context).encode()


def test_answers_are_transformers_own(tmp_path: Path) -> None:
    config = decision.DecisionConfig(temperature={"choice": 2.0, "score": 0.5})
    prompts, context = described(config, ["refund", "topic"], ["mood"], ["only", "flat"])
    logits = np.random.default_rng(5).normal(0, 3, (1, 4, 3, 6)).astype(np.float32)
    outputs = answering(tmp_path).ask({"logits": logits, "context": np.array([[context]], object)})
    wanted = {}
    for rows, questions in zip(logits[0], prompts, strict=False):
        scores = [torch.from_numpy(row[: len(each.options)]) for row, each in zip(rows, questions, strict=False)]
        ids, marks = torch.ones(1, 4, dtype=torch.int64), torch.tensor([4] * len(questions))
        for question, each in zip(
            questions, decision_models.process_scores(config, ids, marks, questions, scores), strict=True
        ):
            wanted[question.name] = question.answer(each.softmax(-1).tolist())
    got = json.loads(outputs["json"][0, 0])
    assert list(got) == [name.decode() for name in outputs["questions"][0]] == list(wanted)
    assert [json.loads(each) for each in outputs["answers"][0]] == list(got.values())
    for name, answer in wanted.items():
        assert got[name].keys() == answer.keys()
        for key, value in answer.items():
            assert got[name][key] == (value if isinstance(value, str) or key == "legend" else pytest.approx(value))


@pytest.mark.parametrize("template", [None, TOGETHER])
def test_prompts_are_transformers_own(template: str | None, tmp_path: Path) -> None:
    config = decision.DecisionConfig(chat_template=template, temperature={"noul": 3.0})
    request = {"state": "WIN <s> a FREE boat <|mark|>!", "questions": QUESTIONS}
    outputs = asking(tmp_path, config).ask({"request": text_rows([json.dumps(request)])})
    tokenizer = tokenization.chat()
    prompts = config.prepare_inputs(request, tokenizer)
    assert len(prompts) == (1 if template else len(QUESTIONS))
    contexts = json.loads(outputs["context"][0, 0])
    for row, (inputs, questions) in enumerate(prompts):
        real = outputs["attention_mask"][0, row] > 0
        assert outputs["input_ids"][0, row][real].tolist() == inputs["input_ids"][0].tolist()
        assert outputs["marks"][0, row].tolist() == inputs["marks"].tolist()
        for question, labels, told in zip(questions, outputs["labels"][0, row], contexts[row], strict=True):
            wanted = decision.label_token_ids(tokenizer, tuple(question.labels))
            assert labels[: len(wanted)].tolist() == wanted
            assert (told["name"], told["options"]) == (question.name, question.options)
            assert told["temperature"] == (3.0 if question.type == "noul" else 1.0)


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        ('{"state": "x", "questions": {"a": {"type": "maybe"}}}', "`type` must be one of noul, choice, score"),
        ('{"state": "x"}', "A request is"),
        ("no JSON", "Expecting value"),
        ('{"state": "p", "questions": {"a": {"type": "noul"}}, "assets": {"p": "/etc/passwd"}}', "data_base64"),
    ],
)
def test_a_request_that_asks_nothing_is_refused(request_text: str, message: str, tmp_path: Path) -> None:
    part = asking(tmp_path, decision.DecisionConfig())
    with pytest.raises(BackendError, match=message) as refused:
        part.ask({"request": text_rows([request_text])})
    assert refused.value.code == Code.INVALID_ARG
