"""The last step of mask-generation without torchvision: of masks whose boxes overlap, the best.

transformers takes that step from torchvision alone, whose wheels bring CUDA.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_overlap import suppress
from transformers.utils import is_torchvision_available


def complete_processor(processor: Any) -> None:
    """Give an image processor of transformers the step that it has with torchvision only."""
    if not is_torchvision_available():
        processor.post_process_for_mask_generation = best_masks


def best_masks(masks: list[dict[str, Any]], scores: Any, boxes: Any, threshold: float) -> tuple[Any, Any, Any, Any]:
    """Masks, scores, masks as run lengths, and boxes of what is left, the best first; `masks` are run lengths."""
    kept = suppress(boxes.float().cpu().numpy(), scores.float().cpu().numpy(), threshold)
    lengths = [masks[index] for index in kept]
    return [unpack_mask(each) for each in lengths], scores[kept], lengths, boxes[kept]


def unpack_mask(lengths: dict[str, Any]) -> np.ndarray:
    """A mask [height, width] of the lengths of its runs of False and True in turn, column by column."""
    height, width = lengths["size"]
    values = np.arange(len(lengths["counts"])) % 2 == 1
    return np.repeat(values, lengths["counts"]).reshape(width, height).T
