"""Splits of networks that measure depth, around which nothing needs transformers."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from conch.deploy.split.generic import Captured
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, Split
from conch.deploy.split.sized_image import split_around
from conch.deploy.split.subject import Subject

#: Height and width of depth maps, and of the images they are brought to: larger, smaller, upright, narrow, equal.
_PROBES = (((24, 32), (48, 90)), ((40, 40), (17, 23)), ((30, 22), (64, 11)), ((5, 7), (5, 7)))
_TOLERANCE = 1e-5
#: Borders that a preprocess may have put around the image: none; ZoeDepth's.
_BORDERS = (0, 3)


def depth_estimation(subject: Subject) -> Split:
    contents = {"depth_settings.json": json.dumps({"border": border_of(subject.pipe.image_processor)}).encode()}
    captured = Captured(subject)
    summary = "depth in the size of the image"
    return split_around(captured, ("predicted_depth",), "measure_depth.py", summary, contents)


def border_of(processor: Any) -> int:
    """How wide a border the processor takes away when it brings depth to the size of the image.

    Raises:
        CannotSplit: it does more than that and a bicubic interpolation.
    """
    if not hasattr(processor, "post_process_depth_estimation"):
        raise CannotSplit(f"{type(processor).__name__} has no post_process_depth_estimation")
    for border in _BORDERS:
        if all(_agree(processor, border, *sizes) for sizes in _PROBES):
            return border
    raise CannotSplit(f"{type(processor).__name__} brings depth to the size of the image in a way of its own")


def _agree(processor: Any, border: int, source: tuple[int, int], target: tuple[int, int]) -> bool:
    depth = np.random.default_rng(0).uniform(0, 1, source).astype(np.float32)
    try:
        output = SimpleNamespace(predicted_depth=torch.from_numpy(depth)[None])
        (expected,) = processor.post_process_depth_estimation(output, [target])
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CannotSplit(f"{type(processor).__name__} needs more than the depth: {reason}") from error
    got = light_module("light_resize").resize_depth(depth, *target, border)
    want = expected["predicted_depth"].numpy()
    return want.shape == got.shape and np.allclose(want, got, rtol=0, atol=_TOLERANCE)
