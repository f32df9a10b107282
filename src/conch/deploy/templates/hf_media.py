"""Images, audio and video: from the tensors of a request to what pipelines take, and batches of their features."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError


def one_image(array: np.ndarray) -> Image.Image:
    """The only image of a tensor: an encoded file (BYTES [1]) or pixels [height, width, channels]."""
    images = all_images(array)
    if len(images) != 1:
        raise ValueError(f"expected one image, got {len(images)}")
    return images[0]


def all_images(array: np.ndarray) -> list[Image.Image]:
    """RGB images, upright, of encoded files (BYTES) or of pixels [.., height, width, channels], values 0 to 255."""
    if array.dtype == object:
        return [_decode_image(file_bytes(element)) for element in array.reshape(-1) if len(element)]
    if array.ndim < 3 or array.shape[-1] not in (1, 3, 4):
        raise ValueError(f"pixels should have the shape [height, width, channels (1, 3 or 4)], got {list(array.shape)}")
    pixels = array.reshape(-1, *array.shape[-3:])
    if pixels.dtype != np.uint8:
        pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return [Image.fromarray(one.squeeze(-1) if one.shape[-1] == 1 else one).convert("RGB") for one in pixels]


def _decode_image(data: bytes) -> Image.Image:
    try:
        return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(
            f"cannot decode the image: expected JPEG, PNG, WebP, ..., got {len(data)} bytes: {reason}"
        ) from error


def file_bytes(element: bytes) -> bytes:
    """The file in a BYTES element: as it is, or as base64 text (JSON cannot carry bytes)."""
    data = bytes(element)
    if not data.isascii():
        return data
    try:
        return base64.b64decode(data.partition(b",")[2] if data.startswith(b"data:") else data, validate=True)
    except ValueError:
        return data


def one_audio(row: dict[str, Any], sampling_rate: int) -> np.ndarray:
    """Mono samples at the model's rate, of an encoded file (`audio` BYTES [1]) or of samples and `sampling_rate`."""
    import soundfile
    import soxr

    audio = row["audio"]
    if isinstance(audio, bytes) or audio.dtype == object:
        data = file_bytes(audio if isinstance(audio, bytes) else audio.reshape(-1)[0])
        try:
            samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        except (RuntimeError, OSError) as error:
            expected = f"expected WAV, FLAC, OGG or MP3, got {len(data)} bytes"
            raise ValueError(f"cannot decode the audio: {expected}: {str(error).rpartition(': ')[2]}") from error
        samples = samples.mean(axis=1)
    else:
        samples = audio.astype(np.float32)
        rate = int(row["sampling_rate"].reshape(-1)[0]) if "sampling_rate" in row else sampling_rate
    if not samples.size or rate <= 0:
        raise ValueError(f"the audio is empty or its rate is wrong: {samples.size} samples at {rate} Hz")
    return np.asarray(soxr.resample(samples, rate, sampling_rate) if rate != sampling_rate else samples, np.float32)


def forward_batches(pipe: Any, encoded: Sequence[Any], largest: int = 64, **parameters: Any) -> list[Any]:
    """`pipe.forward` of each preprocessed input, in batches of at most `largest` inputs with tensors of equal shapes.

    Unequal ones are not padded: models see the padding of images and sounds.
    """
    alike: dict[Any, list[int]] = {}
    for index, each in enumerate(encoded):
        shapes = tuple((name, tuple(value.shape)) for name, value in each.items() if isinstance(value, torch.Tensor))
        alike.setdefault(shapes, []).append(index)
    groups = [group[i : i + largest] for group in alike.values() for i in range(0, len(group), largest)]
    outputs: list[Any] = [None] * len(encoded)
    for group in groups:
        batch = {name: _join([encoded[index][name] for index in group]) for name in encoded[group[0]]}
        output = pipe.forward(batch, **parameters)
        for row, index in enumerate(group):
            one = {name: _pick(value, row, len(group)) for name, value in output.items()}
            outputs[index] = output.__class__({name: value for name, value in one.items() if value is not None})
    return outputs


def _join(values: list[Any]) -> Any:
    return torch.cat(values) if isinstance(values[0], torch.Tensor) else values


def _pick(value: Any, row: int, size: int) -> Any:
    """One row of a batched value: a tensor keeps its first dimension, a tuple holds tensors, a list one value a row."""
    if isinstance(value, torch.Tensor):
        return value[row : row + 1] if value.dim() and len(value) == size else value
    if isinstance(value, tuple):
        return tuple(_pick(each, row, size) for each in value)
    return value[row] if isinstance(value, list) and len(value) == size else None
