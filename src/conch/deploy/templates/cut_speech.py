"""Turn sounds into what a network takes that hears frame by frame, in overlapping parts where a request asks for them.

`audio` (and `sampling_rate`) -> of these what config.pbtxt names:
    input_values    [samples] or input_features [frames, bands] of the first part; `light_rows.py` carries the others
    attention_mask  [samples] or [frames]
    strides         [parts, 3] in samples: length of each part, its overlap on both sides; 0 of a whole sound
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_audio import AudioProcessor
from light_inputs import one_audio
from light_rows import FURTHER, prepare
from light_serving import Outputs, Row, Settings, answer
from light_speech import SpeechProcessor


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        prepare(self.settings)
        processor = AudioProcessor.read(self.settings.version)
        self.speech = SpeechProcessor(processor, 0, int(self.settings.values.get("align_to", 1)))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> np.ndarray:
        return one_audio(row, self.speech.processor.sampling_rate)

    def infer(
        self,
        samples: list[np.ndarray],
        chunk_length_s: float | None = None,
        stride_length_s: Any = None,
        **_: Any,
    ) -> list[Outputs]:
        return [self.rows(self.speech(sample, chunk_length_s or 0.0, stride_length_s)) for sample in samples]

    def rows(self, parts: list[Outputs]) -> Outputs:
        return {**parts[0], FURTHER: parts[1:], "strides": np.stack([part["strides"] for part in parts])}
