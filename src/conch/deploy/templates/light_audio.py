"""Sounds to what a network takes, with numpy alone: what transformers' feature extractors do.

`audio_settings.json` beside model.py says what is done; null or false leaves a step out:

    sampling_rate  of the samples
    kind           "waveform" or "spectrogram"
    normalize      waveform: to mean 0 and variance 1
    samples        spectrogram: the sound is made that long ...
    extend         ... by "pad" (0 at the end), "repeat", or "repeatpad" (as often as it fits, then 0) ...
    cut            ... or cut there: "start" keeps the start, "random" any part
    frame, hop, fft, center, preemphasis, remove_offset    of the frames
    log, floor     "log", "log10" or "dB" of at least `floor`
    range          below the loudest by no more, then (x + 4) / 4 (Whisper)
    frames         made that many, by 0 at the end or a cut
    mean, std      (x - mean) / std
    drop_last, by_band, channel    without the last frame; [bands, frames], else [frames, bands]; [1, ..]

`audio_arrays.npz` holds `window` and `bands`, the filters [frequencies, bands].
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class AudioProcessor:
    """Processes one sound at a time."""

    def __init__(self, settings: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        self.settings = settings
        self.sampling_rate: int = settings["sampling_rate"]
        self.window = np.asarray(arrays.get("window", ()), np.float64)
        self.bands = np.asarray(arrays.get("bands", ()), np.float64)

    @classmethod
    def read(cls, directory: Path) -> AudioProcessor:
        """The one whose two files lie there; one without filters has no `audio_arrays.npz`."""
        path = directory / "audio_arrays.npz"
        arrays = dict(np.load(path)) if path.is_file() else {}
        return cls(json.loads((directory / "audio_settings.json").read_text(encoding="utf-8")), arrays)

    def __call__(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """`input_values` [samples] and `attention_mask`, or `input_features` and `is_longer`, of mono samples."""
        if self.settings["kind"] == "waveform":
            if self.settings["normalize"]:
                samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
            return {"input_values": samples.astype(np.float32), "attention_mask": np.ones(len(samples), np.int32)}
        length = self.settings["samples"]
        features = self.spectrogram(self.resize(samples, length) if length else samples)
        is_longer = np.array([bool(length) and len(samples) > length])
        return {"input_features": features, "input_values": features, "is_longer": is_longer}

    def resize(self, samples: np.ndarray, length: int) -> np.ndarray:
        """Samples made `length` long."""
        if len(samples) > length:
            random = self.settings["cut"] == "random"
            start = np.random.default_rng().integers(0, len(samples) - length + 1) if random else 0
            return samples[start : start + length]
        times = length // len(samples)
        if self.settings["extend"] == "repeat":
            return np.tile(samples, times + 1)[:length]
        if self.settings["extend"] == "repeatpad":
            samples = np.tile(samples, times)
        return np.pad(samples, (0, length - len(samples)))

    def spectrogram(self, samples: np.ndarray) -> np.ndarray:
        settings = self.settings
        values = self.scaled(self.powers(samples) @ self.bands)
        if settings["drop_last"]:
            values = values[:-1]
        if settings["range"]:
            values = (np.maximum(values, values.max() - settings["range"]) + 4) / 4
        if count := settings["frames"]:
            values = np.pad(values[:count], ((0, max(0, count - len(values))), (0, 0)))
        values = (values - settings["mean"]) / settings["std"]
        values = values.T if settings["by_band"] else values
        return np.ascontiguousarray(values[None] if settings["channel"] else values, np.float32)

    def powers(self, samples: np.ndarray) -> np.ndarray:
        """The power of each frequency in each frame [frames, frequencies]."""
        settings, frame = self.settings, self.settings["frame"]
        samples = samples.astype(np.float64)
        if settings["center"]:
            samples = np.pad(samples, frame // 2, mode="reflect")
        if len(samples) < frame:
            raise ValueError(f"the sound is too short: {len(samples)} samples, the model needs at least {frame}")
        frames = np.lib.stride_tricks.sliding_window_view(samples, frame)[:: settings["hop"]].copy()
        if settings["remove_offset"]:
            frames -= frames.mean(axis=1, keepdims=True)
        if emphasis := settings["preemphasis"]:
            frames[:, 1:] -= emphasis * frames[:, :-1]
            frames[:, 0] *= 1 - emphasis
        return np.abs(np.fft.rfft(frames * self.window, settings["fft"])) ** 2

    def scaled(self, values: np.ndarray) -> np.ndarray:
        values = np.maximum(self.settings["floor"], values)
        return np.log(values) if self.settings["log"] == "log" else SCALES[self.settings["log"]] * np.log10(values)


SCALES = {"log10": 1.0, "dB": 10.0}
