"""Turn sounds into what a model of speech takes, in overlapping parts where a request asks for them.

`audio` (and `sampling_rate`) -> of these what config.pbtxt names:
    input_features  [parts, bands, frames] or input_values [parts, samples]
    rest            [parts, bands, frames] what a sound is longer than the model's window (the setting `window`, frames)
    attention_mask  [parts, frames]
    lengths         [parts] how many frames, or samples, a part has; 0 is no part: another row has more of them
    strides         [parts, 3] in samples: length of the part, its overlap on both sides; 0 of a whole sound
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_audio import AudioProcessor
from light_inputs import one_audio
from light_serving import Outputs, Row, Settings, answer, stack
from light_speech import SpeechProcessor


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        processor = AudioProcessor.read(self.settings.version)
        self.speech = SpeechProcessor(
            processor, int(self.settings.values.get("window", 0)), int(self.settings.values.get("align_to", 1))
        )

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
        cut = [self.speech(sample, chunk_length_s or 0.0, stride_length_s) for sample in samples]
        return [{name: stack([part[name] for part in parts]) for name in parts[0]} for parts in cut]
