"""Of boxes that overlap, the best, with numpy alone: what torchvision does."""

from __future__ import annotations

import numpy as np

RESORTED = 1000  # of more boxes on a CPU, torchvision sorts what is left once more, which may swap equally good ones


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Non-maximum suppression: the numbers of boxes (x1, y1, x2, y2) that no better one overlaps, the best first.

    The overlap is the intersection over the union, in the number format of the boxes; of equally good ones the first is
    the better. Boxes without an area overlap nothing.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    waiting = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(waiting):
        first, waiting = int(waiting[0]), waiting[1:]
        kept.append(first)
        corner = np.maximum(boxes[first, :2], boxes[waiting, :2])
        sides = np.maximum(np.minimum(boxes[first, 2:], boxes[waiting, 2:]) - corner, 0)
        common = sides[:, 0] * sides[:, 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            overlap = common / (areas[first] + areas[waiting] - common)
        # In double precision: 0.6 as a float is more than 0.6. What is no number (0 / 0) stays, too.
        waiting = waiting[~(overlap.astype(np.float64) > threshold)]
    if len(boxes) > RESORTED:
        ascending = np.sort(kept)
        kept = ascending[np.argsort(-scores[ascending], kind="stable")].tolist()
    return kept
