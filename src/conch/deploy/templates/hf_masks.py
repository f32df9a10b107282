"""The last step of mask-generation without torchvision: of masks whose boxes overlap, the best.

transformers takes that step from torchvision alone, whose wheels bring CUDA. It needs torch beside the pipeline.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers.utils import is_torchvision_available

RESORTED = 1000  # of more boxes on a CPU, torchvision sorts what is left once more, which may swap equally good ones


def complete_processor(processor: Any) -> None:
    """Give an image processor of transformers the step that it has with torchvision only."""
    if not is_torchvision_available():
        processor.post_process_for_mask_generation = best_masks


def best_masks(masks: list[dict[str, Any]], scores: Any, boxes: Any, threshold: float) -> tuple[Any, Any, Any, Any]:
    """Masks, scores, masks as run lengths, and boxes of what is left, the best first; `masks` are run lengths."""
    kept = suppress(boxes.float(), scores, threshold)
    lengths = [masks[index] for index in kept.tolist()]
    return [unpack_mask(each) for each in lengths], scores[kept], lengths, boxes[kept]


def suppress(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Non-maximum suppression: the numbers of boxes (x1, y1, x2, y2) that no better one overlaps, the best first.

    The overlap is the intersection over the union, in the number format of the boxes; of equally good ones the first is
    the better. Boxes without an area overlap nothing.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    waiting = torch.argsort(scores, descending=True, stable=True)
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        corner = torch.maximum(boxes[best, :2], boxes[waiting, :2])
        sides = (torch.minimum(boxes[best, 2:], boxes[waiting, 2:]) - corner).clamp(min=0)
        common = sides[:, 0] * sides[:, 1]
        overlap = common / (areas[best] + areas[waiting] - common)
        # In double precision: 0.6 as a float is more than 0.6. What is no number (0 / 0) stays, too.
        waiting = waiting[~(overlap.double() > threshold)]
    if not kept:
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    best_first = torch.stack(kept)
    if len(boxes) > RESORTED:
        ascending = best_first.sort().values
        best_first = ascending[scores[ascending].sort(descending=True).indices]
    return best_first


def unpack_mask(lengths: dict[str, Any]) -> np.ndarray:
    """A mask [height, width] of the lengths of its runs of False and True in turn, column by column."""
    height, width = lengths["size"]
    values = np.arange(len(lengths["counts"])) % 2 == 1
    return np.repeat(values, lengths["counts"]).reshape(width, height).T
