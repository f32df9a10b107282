"""Resizing without torchvision, which some image processors of transformers take from there alone.

torchvision's wheels bring CUDA, and what it does with floating numbers is torch's interpolation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from transformers.utils import is_torchvision_available

PROCESSORS = ("OneFormerImageProcessorPil", "ZoeDepthImageProcessorPil")


class Functional:
    """What they read of `torchvision.transforms.v2.functional`."""

    class InterpolationMode:
        BILINEAR = "bilinear"
        BICUBIC = "bicubic"

    @staticmethod
    def resize(image: torch.Tensor, size: Sequence[int], interpolation: str, antialias: bool = True) -> torch.Tensor:
        """FP32 [.., height, width] of maps of any size."""
        maps = image.reshape(1, -1, *image.shape[-2:])
        resized = torch.nn.functional.interpolate(
            maps, size=tuple(size), mode=interpolation, align_corners=False, antialias=antialias
        )
        return resized.reshape(*image.shape[:-2], *size)


def complete_processor(processor: Any) -> None:
    """Give an image processor of transformers the resizing that it has with torchvision only."""
    if type(processor).__name__ in PROCESSORS and not is_torchvision_available():
        vars(sys.modules[type(processor).__module__])["tvF"] = Functional
