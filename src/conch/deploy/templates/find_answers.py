"""Find answers among the words of a page: `start_logits`, `end_logits`, `word_ids` [parts, tokens], `words` -> the
outputs of document-question-answering."""

from __future__ import annotations

from typing import Any

from light_answers import NO_TOKEN, Part, find_answers
from light_outputs import answers
from light_serving import Outputs, Row, Settings, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(
        self,
        samples: list[Row],
        top_k: int | None = None,
        max_answer_len: int | None = None,
        handle_impossible_answer: bool | None = None,
        **_: Any,
    ) -> list[Outputs]:
        options = {"top_k": top_k, "max_answer_len": max_answer_len, "may_be_none": handle_impossible_answer}
        chosen = {name: value for name, value in options.items() if value is not None}
        return [answers(self.find(sample, chosen)) for sample in samples]

    def find(self, sample: Row, options: dict[str, Any]) -> list[dict[str, Any]]:
        said = zip(sample["start_logits"], sample["end_logits"], sample["word_ids"], strict=True)
        # Parts without a token pad a request whose pages have unequal numbers of parts.
        parts = [Part(*each) for each in said if (each[2] > NO_TOKEN).any()]
        return find_answers(parts, [bytes(word).decode() for word in sample["words"]], **options)
