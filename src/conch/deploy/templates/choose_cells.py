"""Choose the cells that answer: `logits` [tokens], `logits_aggregation`, `token_type_ids` [tokens, 7], `table` -> the
outputs of table-question-answering.

`cells_settings.json` beside model.py names the ways to aggregate.
"""

from __future__ import annotations

import json
from typing import Any

from light_cells import choose_cells
from light_inputs import one_text
from light_outputs import cells
from light_rows import bring_back
from light_serving import Outputs, Row, Settings, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.names = self.settings.read_json("cells_settings.json")

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row], **_: Any) -> list[Outputs]:
        return [cells(self.choose(row)) for (row,) in bring_back(self.settings, samples)]

    def choose(self, row: Row) -> dict[str, Any]:
        table = json.loads(one_text(row["table"]))
        aggregation = row.get("logits_aggregation")
        return choose_cells(table, row["token_type_ids"], row["logits"], aggregation, self.names)
