"""Sounds to the tensors of models of speech, whole or in overlapping parts, as transformers' pipeline cuts them."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


class SpeechProcessor:
    """Sounds to tensors; `window` frames at most are the encoder's, 0 where it takes sounds of any length."""

    def __init__(self, processor: Any, window: int, align_to: int) -> None:
        self.processor = processor
        self.window = window
        self.align_to = align_to

    def __call__(self, samples: np.ndarray, chunk_length_s: float = 0.0, stride_length_s: Any = None) -> list[Arrays]:
        """The tensors of each part; of one part, the whole sound, unless it is to be cut."""
        if not chunk_length_s:
            return [{**self.features(samples, whole=True), "strides": np.zeros(3, np.int64)}]
        return [
            {**self.features(part, whole=False), "strides": np.array(stride, np.int64)}
            for part, stride in self.chunks(samples, chunk_length_s, stride_length_s)
        ]

    def features(self, samples: np.ndarray, *, whole: bool) -> Arrays:
        """The tensors of one part; a whole sound keeps what is longer than the window."""
        processor = self.processor
        if processor.settings["kind"] == "waveform":
            made = processor(samples)
            return {**made, "lengths": np.int64(len(made["input_values"]))}
        limit, hop = processor.settings["samples"], processor.settings["hop"]
        if whole and limit and len(samples) > limit:
            features = processor.spectrogram(samples)
        else:
            features = processor(samples)["input_features"]
        frames = features.shape[-1]
        mask = np.arange(frames) * hop < len(samples)
        window = self.window or frames
        return {
            "input_features": features[:, :window],
            "rest": features[:, window:],
            "attention_mask": mask.astype(np.int32),
            "lengths": np.int64(frames),
        }

    def chunks(
        self, samples: np.ndarray, length_s: float, stride_s: Any
    ) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
        """Overlapping parts of a sound; each with its length and its overlap on both sides."""
        overlap = length_s / 6 if stride_s is None else stride_s
        overlaps = overlap if isinstance(overlap, list) else [overlap, overlap]
        if len(overlaps) != 2:
            raise ValueError(f"stride_length_s should be a number or two of them, got {stride_s!r}")
        length, left, right = (self.aligned(seconds) for seconds in (length_s, *overlaps))
        step = length - left - right
        if length <= 0 or min(left, right) < 0 or step <= 0:
            raise ValueError("chunk_length_s should be longer than what stride_length_s takes on both sides")
        found = []
        for start in range(0, len(samples), step):
            part, last = samples[start : start + length], start + length >= len(samples)
            before = left if start else 0
            if len(part) > before:
                found.append((part, (len(part), before, 0 if last else right)))
            if last:
                break
        return found

    def aligned(self, seconds: float) -> int:
        """Samples, a multiple of what one step of the model's output stands for."""
        return round(seconds * self.processor.sampling_rate / self.align_to) * self.align_to
