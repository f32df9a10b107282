"""Splits of networks that look at videos, around which nothing needs transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conch.deploy.extras import require
from conch.deploy.split.generic import Captured
from conch.deploy.split.image import core_part, network_of
from conch.deploy.split.image_processor import light_image_processor
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, Split
from conch.deploy.split.stages import classify_part, python_part
from conch.deploy.split.subject import Subject
from conch.deploy.split.tokenizer import PartFiles

_PIXELS = "pixel_values"
#: Largest difference of a pixel after normalisation.
_TOLERANCE = 1e-3


def video_classification(subject: Subject) -> Split:
    captured = Captured(subject)
    files = video_files(subject.pipe, [Path(sample.arguments[0]) for sample in captured.samples])
    inputs = captured.inputs()
    if others := sorted({spec.name for spec in inputs} - {_PIXELS}):
        raise CannotSplit(f"the network takes {', '.join(others)}, which only transformers can make")
    core = core_part(network_of(captured.module(["logits"]), inputs, ["logits"], captured.batches()))
    preprocess = python_part(
        subject,
        "preprocess",
        "process_video.py",
        subject.plan.inputs,
        inputs,
        summary="videos to pixels",
        files=files,
    )
    return Split((preprocess, core, classify_part(subject, core.outputs)))


def video_files(pipe: Any, videos: Sequence[Path]) -> PartFiles:
    """Settings and contents of a part that runs `process_video.py`.

    Raises:
        CannotSplit: it would make other pixels of these videos than the pipeline's preprocess.
    """
    if pipe.video_processor is not None:
        raise CannotSplit(
            f"{type(pipe.video_processor).__name__} chooses frames itself, which only transformers can do"
        )
    frames = int(pipe.model.config.num_frames)
    _, contents = light_image_processor(_OneFrame(pipe.image_processor))
    pixels_of = light_module("light_image").ImageProcessor(json.loads(contents["image_settings.json"]))
    for video in videos:
        for options in ({}, {"num_frames": 3, "frame_sampling_rate": 2}):
            (expected,) = pipe.preprocess(str(video), **options)[_PIXELS].numpy()
            count = options.get("num_frames", frames)
            pictures = _read(video.read_bytes(), count, options.get("frame_sampling_rate", 1))
            got = np.stack([pixels_of(picture)[_PIXELS] for picture in pictures])
            if expected.shape != got.shape or not np.allclose(expected, got, rtol=0, atol=_TOLERANCE):
                raise CannotSplit(
                    f"{type(pipe.image_processor).__name__} makes other pixels of a video than light code"
                )
    return (("num_frames", str(frames), "how many frames the network looks at"),), contents


def _read(video: bytes, count: int, every: int) -> list[Any]:
    require("av", "av")
    pictures: list[Any] = light_module("light_video").read_frames(video, count, every)
    return pictures


class _OneFrame:
    """A processor of videos as one of images: each is a video of one frame."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, images: Sequence[Any], return_tensors: str) -> Mapping[str, np.ndarray]:
        made = self._processor(list(images), return_tensors=return_tensors)
        return {name: np.asarray(value)[:, 0] for name, value in made.items()}
