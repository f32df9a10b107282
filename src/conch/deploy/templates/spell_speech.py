"""Make text of what a network heard frame by frame (CTC): `logits` [frames, tokens], `strides` [parts, 3] -> `text`,
`chunks`, `timestamps`, `json`.

`spelling.json` beside model.py says what the numbers mean, in the words of `light_spelling.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_outputs import transcript
from light_rows import bring_back
from light_serving import Outputs, Row, Settings, answer
from light_spelling import Speller, without_overlap


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.speller = Speller(self.settings.read_json("spelling.json"))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(
        self, samples: list[Row], return_timestamps: Any = None, return_language: bool | None = None, **_: Any
    ) -> list[Outputs]:
        if return_language is not None:
            raise ValueError("return_language is served by Whisper alone")
        return [self.write(rows, return_timestamps) for rows in bring_back(self.settings, samples)]

    def write(self, parts: list[Row], grain: Any) -> Outputs:
        frame = self.speller.settings["frame"]
        # Strides behind those of the last part pad a request whose sounds have unequal numbers of parts.
        heard = [
            without_overlap(part["logits"].argmax(axis=-1), stride, frame)
            for part, stride in zip(parts, parts[0]["strides"], strict=False)
        ]
        return transcript(self.speller(np.concatenate(heard), grain))
