"""Write a text of another with a model of an encoder and a decoder.

text2text-generation: `text` -> `generated_text`, one entry a returned sequence
summarization: `text` -> `summary_text`
translation: `text` -> `translation_text`; the request parameters `src_lang` and `tgt_lang` choose the languages
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hf_generation import Cancelled
from hf_serving import Outputs, Row, Settings, answer
from hf_text import check_lengths
from hf_text_to_text import Reader, Writer
from light_inputs import one_text


class Sample(NamedTuple):
    text: str
    cancelled: Cancelled


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.writer = Writer(self.settings)
        self.reader = Reader(self.writer.tokenizer, self.writer.languages)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer, cancellable=True)

    def decode(self, row: Row, cancelled: Cancelled) -> Sample:
        return Sample(one_text(row["text"]), cancelled)

    def infer(self, samples: list[Sample], seed: int | None = None, **parameters: Any) -> list[Outputs]:
        languages = (parameters.get("src_lang"), parameters.get("tgt_lang"))
        encodings = self.reader.encode([sample.text for sample in samples], *languages, parameters.get("truncation"))
        check_lengths(encodings, self.writer.model, self.writer.tokenizer)
        clients = [sample.cancelled for sample in samples]
        sequences = self.writer.write(encodings, clients, parameters, seed)
        return [self.writer.texts(each, parameters) for each in sequences]
