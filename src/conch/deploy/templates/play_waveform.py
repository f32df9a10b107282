"""Say what a voice spoke: `waveform` [samples] -> `audio`, `sampling_rate`, which is a setting."""

from __future__ import annotations

from typing import Any

from light_outputs import speech
from light_rows import bring_back
from light_serving import Outputs, Row, Settings, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.rate = int(self.settings.values["sampling_rate"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row], **_: Any) -> list[Outputs]:
        return [
            speech({"audio": row["waveform"], "sampling_rate": self.rate})
            for (row,) in bring_back(self.settings, samples)
        ]
