"""Bring rows of unequal size together behind a network that was not given all of them: what the network made, and those
of its inputs that clients see, of every row of a request. Numbers of smaller rows are followed by 0.
"""

from __future__ import annotations

from typing import Any

from light_rows import bring_back
from light_serving import Outputs, Row, Settings, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row], **_: Any) -> list[Outputs]:
        return [row for (row,) in bring_back(self.settings, samples)]
