"""Score images (or sounds) against texts with a model of two towers: CLIP, SigLIP, ALIGN, CLAP, ...

zero-shot-image-classification: `image`, `text` [n] -> `logits_per_image` [n], `probs` [n], `labels` [n]
zero-shot-audio-classification: `audio`, `text` [n] -> `logits_per_audio` [n], `probs` [n], `labels` [n]

The texts are used as they are; with the request parameter `hypothesis_template` ("This is a photo of {}.") they are put
into that sentence first. However many requests a batch holds, every distinct image and every distinct text goes through
its tower once, and each request picks its own products.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, to_json
from light_inputs import all_texts, one_audio, one_image


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        self.audio = self.settings.task == "zero-shot-audio-classification"
        self.logits_name = "logits_per_audio" if self.audio else "logits_per_image"
        self.siglip = "siglip" in self.pipe.model.config.model_type

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> tuple[Any, list[str]]:
        if self.audio:
            return one_audio(row, self.pipe.feature_extractor.sampling_rate), all_texts(row["text"])
        return one_image(row["image"]), all_texts(row["text"])

    def infer(
        self, samples: list[tuple[Any, list[str]]], hypothesis_template: str = "{}", truncation: bool = False
    ) -> list[Outputs]:
        media: dict[bytes, tuple[int, Any]] = {}  # content -> its number and itself
        texts: dict[str, int] = {}  # sentence -> its number
        wanted = []
        for medium, labels in samples:
            number, _ = media.setdefault(content(medium), (len(media), medium))
            sentences = [hypothesis_template.format(label) for label in labels]
            wanted.append((number, [texts.setdefault(sentence, len(texts)) for sentence in sentences]))
        logits = self.forward([medium for _, medium in media.values()], list(texts), truncation)
        return [
            self.outputs(logits[number, columns], labels)
            for (number, columns), (_, labels) in zip(wanted, samples, strict=True)
        ]

    def forward(self, media: list[Any], texts: list[str], truncation: bool) -> torch.Tensor:
        """Logits [media, texts]."""
        if self.siglip:  # SigLIP was trained on texts padded to 64 tokens
            tokens = self.pipe.tokenizer(
                texts, padding="max_length", max_length=64, truncation=True, return_tensors="pt"
            )
        else:
            tokens = self.pipe.tokenizer(texts, padding=True, truncation=truncation, return_tensors="pt")
        if self.audio:
            extractor = self.pipe.feature_extractor
            each = [extractor([one], sampling_rate=extractor.sampling_rate, return_tensors="pt") for one in media]
        else:
            each = [self.pipe.image_processor(images=[one], return_tensors="pt") for one in media]
        features = {name: torch.cat([one[name] for one in each]) for name in each[0]}
        features = {
            name: value.to(self.pipe.model.dtype) if value.is_floating_point() else value
            for name, value in features.items()
        }
        inputs = {name: value.to(self.pipe.device) for name, value in {**tokens, **features}.items()}
        return getattr(self.pipe.model(**inputs), self.logits_name).float().cpu()

    def outputs(self, logits: torch.Tensor, labels: list[str]) -> Outputs:
        probs = logits.sigmoid() if self.siglip else logits.softmax(dim=-1)
        pairs = sorted(zip(probs.tolist(), labels, strict=True), key=lambda pair: -pair[0])
        ranked = [{"score": score, "label": label} for score, label in pairs]
        return {self.logits_name: logits, "probs": probs, "labels": labels, "json": to_json(ranked)}


def content(medium: Any) -> bytes:
    """Equal for equal images and equal sounds."""
    array = np.asarray(medium)
    return repr(array.shape).encode() + array.tobytes()
