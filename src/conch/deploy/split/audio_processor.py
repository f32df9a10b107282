"""From a checkpoint's feature extractor to what `process_audio.py` needs, proved to give the same features."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit
from conch.deploy.split.tokenizer import PartFiles

#: Seconds of the sounds that prove the settings.
_PROBES = (0.31, 1.0, 2.7)
#: Largest difference of a feature; transformers' own two implementations differ by 1e-5.
_TOLERANCE = 1e-3

_Settings = dict[str, Any]
_SPECTROGRAM: Mapping[str, Any] = {
    "kind": "spectrogram",
    "samples": 0,
    "extend": "pad",
    "cut": "start",
    "center": True,
    "preemphasis": 0.0,
    "remove_offset": False,
    "floor": 1e-10,
    "range": 0.0,
    "frames": 0,
    "mean": 0.0,
    "std": 1.0,
    "drop_last": False,
    "by_band": False,
    "channel": False,
}


def light_audio_processor(extractor: Any) -> PartFiles:
    """Settings and contents of a part that runs `process_audio.py`.

    `extractor` is the one transformers loads.

    Raises:
        CannotSplit: light code does not know what it does, or gives other features.
    """
    settings, arrays = _describe(extractor)
    settings["sampling_rate"] = int(extractor.sampling_rate)
    _prove(extractor, settings, arrays)
    contents = {"audio_settings.json": json.dumps(settings, indent=1).encode()}
    if arrays:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        contents["audio_arrays.npz"] = buffer.getvalue()
    return (), contents


def _describe(extractor: Any) -> tuple[_Settings, dict[str, np.ndarray]]:
    """What the extractor does, told by its attributes; several classes share them."""
    bands = getattr(extractor, "mel_filters", None)
    if bands is None:
        if "input_values" in extractor.model_input_names and not hasattr(extractor, "num_mel_bins"):
            return {"kind": "waveform", "normalize": bool(getattr(extractor, "do_normalize", False))}, {}
        raise CannotSplit(f"{type(extractor).__name__} makes features that only transformers can make")
    if hasattr(extractor, "nb_max_samples"):
        return _clap(extractor)
    if hasattr(extractor, "n_fft") and hasattr(extractor, "n_samples"):
        return _whisper(extractor)
    if all(hasattr(extractor, name) for name in ("num_mel_bins", "window", "max_length", "std")):
        return _spectrogram_transformer(extractor)
    raise CannotSplit(f"{type(extractor).__name__} makes features that only transformers can make")


def _clap(extractor: Any) -> tuple[_Settings, dict[str, np.ndarray]]:
    if extractor.truncation != "rand_trunc":
        raise CannotSplit(f"{type(extractor).__name__} fuses parts of long sounds, which only transformers can do")
    size = int(extractor.fft_window_size)
    settings = {
        **_SPECTROGRAM,
        "samples": int(extractor.nb_max_samples),
        "extend": extractor.padding,
        "cut": "random",
        "frame": size,
        "fft": size,
        "hop": int(extractor.hop_length),
        "log": "dB",
        "channel": True,
    }
    return settings, {"window": _hann(size), "bands": np.asarray(extractor.mel_filters_slaney)}


def _whisper(extractor: Any) -> tuple[_Settings, dict[str, np.ndarray]]:
    size = int(extractor.n_fft)
    settings = {
        **_SPECTROGRAM,
        "samples": int(extractor.n_samples),
        "frame": size,
        "fft": size,
        "hop": int(extractor.hop_length),
        "log": "log10",
        "range": 8.0,
        "drop_last": True,
        "by_band": True,
    }
    return settings, {"window": _hann(size), "bands": np.asarray(extractor.mel_filters)}


def _spectrogram_transformer(extractor: Any) -> tuple[_Settings, dict[str, np.ndarray]]:
    normalize = bool(extractor.do_normalize)
    settings = {
        **_SPECTROGRAM,
        "frame": 400,
        "fft": 512,
        "hop": 160,
        "center": False,
        "log": "log",
        "floor": 1.192092955078125e-07,
        "preemphasis": 0.97,
        "remove_offset": True,
        "frames": int(extractor.max_length),
        "mean": float(extractor.mean) if normalize else 0.0,
        "std": 2 * float(extractor.std) if normalize else 1.0,
    }
    return settings, {"window": np.asarray(extractor.window), "bands": np.asarray(extractor.mel_filters)}


def _hann(size: int) -> np.ndarray:
    return np.hanning(size + 1)[:-1]


def _lengths(settings: _Settings) -> list[int]:
    """How long the sounds are that prove the settings, in samples."""
    lengths = [int(seconds * settings["sampling_rate"]) for seconds in _PROBES]
    longest = settings.get("samples", 0)
    if not longest:
        return lengths
    if settings["cut"] == "random":  # what is left of a longer sound is another part each time
        return [longest // 5, longest // 2, longest]
    return [*lengths, longest + 1234]


def _prove(extractor: Any, settings: _Settings, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise CannotSplit unless sounds give the features that transformers gives."""
    name, rate = type(extractor).__name__, settings["sampling_rate"]
    light = light_module("light_audio").AudioProcessor(settings, arrays)
    random = np.random.default_rng(0)
    for length in _lengths(settings):
        sound = np.sin(np.arange(length) / 17) / 3 + random.normal(0, 0.05, length)
        samples = sound.astype(np.float32)
        output = extractor(samples, sampling_rate=rate, return_tensors="np")
        got = light(samples)
        for key, value in output.items():
            if key not in got:
                raise CannotSplit(f"{name} makes {key}, which only transformers can make")
            expected = np.asarray(value)[0]
            if expected.shape != got[key].shape:
                raise CannotSplit(f"{name} makes {key} {list(expected.shape)}, light code {list(got[key].shape)}")
            largest = float(np.abs(expected.astype(np.float64) - got[key]).max())
            if not largest <= _TOLERANCE:
                raise CannotSplit(f"{name} makes {key} that differ by {largest:.3g} from those of light code")
