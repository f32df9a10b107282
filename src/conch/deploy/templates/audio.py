"""Listen to a sound.

audio-classification: `audio` -> `logits`, `probs`, `label`
automatic-speech-recognition: `audio` -> `text`, and with `return_timestamps` the `chunks` of it with their `timestamps`
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hf_media import forward_batches
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, stage_parameters
from light_generation import pipeline_parameters
from light_inputs import one_audio
from light_outputs import classes, transcript


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        infer = {"audio-classification": self.classify, "automatic-speech-recognition": self.transcribe}
        self.infer = infer[self.settings.task]

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> np.ndarray:
        return one_audio(row, self.pipe.feature_extractor.sampling_rate)

    def classify(self, samples: list[np.ndarray], **parameters: Any) -> list[Outputs]:
        preprocess, forward, postprocess = stage_parameters(self.pipe, parameters)
        encoded = [self.pipe.preprocess(sample, **preprocess) for sample in samples]
        return [classes(self.pipe, output, postprocess) for output in forward_batches(self.pipe, encoded, **forward)]

    def transcribe(self, samples: list[np.ndarray], **parameters: Any) -> list[Outputs]:
        parameters = pipeline_parameters(self.settings.task, parameters)
        preprocess, forward, postprocess = stage_parameters(self.pipe, parameters)
        chunks = [list(self.pipe.preprocess(each, **preprocess)) for each in samples]
        flat = [chunk for each in chunks for chunk in each]
        # The pipeline finds the language of the first sound of a batch only.
        largest = 1 if parameters.get("return_language") else len(flat)
        outputs = iter(forward_batches(self.pipe, flat, largest=largest, **forward))
        return [transcript(self.pipe.postprocess([next(outputs) for _ in each], **postprocess)) for each in chunks]
