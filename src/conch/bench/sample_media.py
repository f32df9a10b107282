"""Images, sounds and videos for load, made on the spot."""

from __future__ import annotations

import importlib
import io
import math
import wave
from random import Random
from typing import Any

import numpy as np

from conch.errors import UnavailableError

IMAGE_SIZE = (640, 480)
SAMPLING_RATE = 16_000
_JPEG_QUALITY = 85


def jpeg(random: Random) -> bytes:
    """A drawn image of 640x480 pixels as a JPEG file of the size that a photo of it would have."""
    buffer = io.BytesIO()
    _draw(random).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def pixels(random: Random) -> np.ndarray:
    """The same as UINT8 [480, 640, 3]."""
    return np.asarray(_draw(random), dtype=np.uint8)


def sound(random: Random) -> np.ndarray:
    """Notes of 1 to 10 seconds in all (log-normal, median 3) as FP32 samples, -1 to 1."""
    seconds = min(10.0, max(1.0, random.lognormvariate(math.log(3.0), 0.5)))
    time = np.arange(int(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    pitches = np.array([random.uniform(110, 440) for _ in range(math.ceil(seconds * 4))])
    pitch = pitches[(time * 4).astype(int)]
    wave_form = 0.6 * np.sin(2 * np.pi * pitch * time) + 0.2 * np.sin(2 * np.pi * 2.01 * pitch * time)
    noise = np.random.default_rng(random.getrandbits(32)).normal(0, 0.02, len(time))
    return np.asarray(np.clip(wave_form + noise, -1, 1), dtype=np.float32)


def wav(random: Random) -> bytes:
    """The same as a 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLING_RATE)
        file.writeframes((sound(random) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def video(random: Random) -> bytes:
    """Two seconds of a moving drawing as an MP4 file; needs the package `av`."""
    av = _require("av", "a sample video")
    frame = pixels(random)[::2, ::2]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=16)
        stream.width, stream.height, stream.pix_fmt = frame.shape[1], frame.shape[0], "yuv420p"
        for turn in range(32):
            picture = np.ascontiguousarray(np.roll(frame, 4 * turn, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _draw(random: Random) -> Any:
    """Shapes before a gradient with a little noise, so that neither decoder nor resizing has it too easy."""
    image_module = _require("PIL.Image", "a sample image")
    draw_module = _require("PIL.ImageDraw", "a sample image")
    width, height = IMAGE_SIZE
    noise = np.random.default_rng(random.getrandbits(32)).normal(0, 6, (height // 2, width // 2, 3))
    slope = np.linspace(40, 200, width)[None, :, None] + np.linspace(0, 50, height)[:, None, None]
    base = slope + noise.repeat(2, axis=0).repeat(2, axis=1)
    image = image_module.fromarray(np.clip(base, 0, 255).astype(np.uint8))
    draw = draw_module.Draw(image)
    for index in range(12):
        x, y = random.randrange(width), random.randrange(height)
        size = random.randrange(20, 160)
        box = (x - size, y - size // 2, x + size, y + size // 2)
        colour = tuple(random.randrange(256) for _ in range(3))
        (draw.ellipse if index % 2 else draw.rectangle)(box, fill=colour)
    return image


def _require(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = {"PIL.Image": "pillow", "PIL.ImageDraw": "pillow"}.get(name, name)
        raise UnavailableError(
            f"{what} needs the Python package '{package}': pip install {package}, or give your own with -i NAME=FILE"
        ) from error
