"""Listen to a sound.

audio-classification: `audio` -> `logits`, `probs`, `label`
automatic-speech-recognition: `audio` -> `text`, and with `return_timestamps` the `chunks` of it with their `timestamps`
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hf_media import forward_batches, one_audio
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, stage_parameters, to_json

# What a client may send beside the pipeline's own parameters: arguments of `generate`.
GENERATE_PARAMETERS = ("language", "task", "max_new_tokens", "num_beams")


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
        results: list[Outputs] = []
        for output in forward_batches(self.pipe, encoded, **forward):
            logits = output["logits"][0].float()
            result = self.pipe.postprocess(output, **postprocess)
            classes = self.pipe.postprocess(output, **{**postprocess, "top_k": len(logits)})  # best first
            probs = np.empty(len(logits), np.float32)
            probs[logits.argsort(descending=True, stable=True).numpy()] = [entry["score"] for entry in classes]
            results.append({"logits": logits, "probs": probs, "label": [classes[0]["label"]], "json": to_json(result)})
        return results

    def transcribe(self, samples: list[np.ndarray], **parameters: Any) -> list[Outputs]:
        generate = {name: parameters.pop(name) for name in GENERATE_PARAMETERS if name in parameters}
        if generate:
            parameters["generate_kwargs"] = {**parameters.get("generate_kwargs", {}), **generate}
        preprocess, forward, postprocess = stage_parameters(self.pipe, parameters)
        chunks = [list(self.pipe.preprocess(each, **preprocess)) for each in samples]
        flat = [chunk for each in chunks for chunk in each]
        # The pipeline finds the language of the first sound of a batch only.
        largest = 1 if parameters.get("return_language") else len(flat)
        outputs = iter(forward_batches(self.pipe, flat, largest=largest, **forward))
        results: list[Outputs] = []
        for each in chunks:
            result = self.pipe.postprocess([next(outputs) for _ in each], **postprocess)
            spoken = result.get("chunks", [])
            # The last chunk of a cut-off sound has no end: -1.
            times = [
                [-1.0 if time is None else time for time in part.get("timestamp", (None, None))] for part in spoken
            ]
            results.append(
                {
                    "text": [result["text"]],
                    "chunks": [part["text"] for part in spoken],
                    "timestamps": np.array(times, np.float32).reshape(-1, 2),
                    "json": to_json(result),
                }
            )
        return results
