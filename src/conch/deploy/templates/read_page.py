"""Turn questions about pages into what a network takes that reads words and where they stand.

`question`, `image` and/or `word_boxes` (JSON) -> of these what config.pbtxt names:
    input_ids, attention_mask, token_type_ids [parts, tokens]   a long page has several parts
    bbox            [parts, tokens, 4] where each token stands
    word_ids        [parts, tokens] the word of each; -1 no word, -2 no place for an answer, -3 padding
    words           the words of the page

`page_settings.json` beside model.py says what `light_pages.py` must know of tokenizer and network.
"""

from __future__ import annotations

import os
from typing import Any

from light_inputs import one_document
from light_pages import PageReader, read_words
from light_serving import Outputs, Row, Settings, answer
from light_text import TextEncoder


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # The library's threads would compete with the engine for the cores, and a page takes a millisecond.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.settings = Settings(args)
        encoder = TextEncoder(self.settings.version, self.settings.read_json("tokenizer_settings.json"))
        self.reader = PageReader(encoder, self.settings.read_json("page_settings.json"))
        self.settings.fill.update(self.reader.fill)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> dict[str, Any]:
        # An image is looked at for its words alone.
        return one_document({name: value for name, value in row.items() if name != "image" or "word_boxes" not in row})

    def infer(
        self,
        samples: list[dict[str, Any]],
        max_seq_len: int | None = None,
        doc_stride: int | None = None,
        lang: str | None = None,
        **_: Any,
    ) -> list[Outputs]:
        made = []
        for sample in samples:
            page = sample["word_boxes"] if "word_boxes" in sample else read_words(sample["image"], lang)
            tensors = self.reader(sample["question"], page, max_seq_len, doc_stride)
            made.append({**tensors, "words": [word for word, _ in page]})
        return made
