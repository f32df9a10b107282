"""Splits of networks that measure depth, around which nothing needs transformers."""

from __future__ import annotations

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


def depth_estimation(subject: Subject) -> Split:
    check_resizing(subject.pipe.image_processor)
    captured = Captured(subject)
    return split_around(captured, ("predicted_depth",), "measure_depth.py", "depth in the size of the image", {})


def check_resizing(processor: Any) -> None:
    """Raise CannotSplit unless the processor's postprocess is a bicubic interpolation to the size of the image."""
    if not hasattr(processor, "post_process_depth_estimation"):
        raise CannotSplit(f"{type(processor).__name__} has no post_process_depth_estimation")
    random = np.random.default_rng(0)
    for source, target in _PROBES:
        depth = random.uniform(0, 1, source).astype(np.float32)
        try:
            output = SimpleNamespace(predicted_depth=torch.from_numpy(depth)[None])
            (expected,) = processor.post_process_depth_estimation(output, [target])
        except Exception as error:
            reason = " ".join(str(error).split())
            raise CannotSplit(f"{type(processor).__name__} needs more than the depth: {reason}") from error
        got = light_module("light_resize").resize_bicubic(depth, *target)
        want = expected["predicted_depth"].numpy()
        if want.shape != got.shape or not np.allclose(want, got, rtol=0, atol=_TOLERANCE):
            raise CannotSplit(f"{type(processor).__name__} brings depth to the size of the image in a way of its own")
