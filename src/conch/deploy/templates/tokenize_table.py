"""Turn questions about tables into what a network takes that reads cells.

`query`, `table` (JSON: column -> its cells, all text) -> `input_ids`, `attention_mask` [tokens], `token_type_ids`
[tokens, 7].

`word_pieces.json` beside model.py is the vocabulary; `table_settings.json` says what else `light_tables.py` must know
of tokenizer and network.
"""

from __future__ import annotations

from typing import Any

from light_inputs import one_table
from light_rows import prepare
from light_serving import Outputs, Row, Settings, answer
from light_tables import TableReader


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        prepare(self.settings)
        pieces, settings = (self.settings.read_json(name) for name in ("word_pieces.json", "table_settings.json"))
        self.reader = TableReader(pieces, settings)
        self.settings.fill.update(self.reader.fill)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> dict[str, Any]:
        return one_table(row)

    def infer(
        self, samples: list[dict[str, Any]], truncation: str | None = None, sequential: bool | None = None
    ) -> list[Outputs]:
        # One question after the other is the same: a sample has one.
        return [dict(self.reader(sample["table"], sample["query"], truncation)) for sample in samples]
