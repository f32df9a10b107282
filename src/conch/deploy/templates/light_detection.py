"""From what a detector's network says to boxes on the image, with numpy alone: what transformers' processors do.

Settings tell the families apart:

    scores    "softmax" of all classes, of which the last means nothing (DETR, YOLOS), or "sigmoid" (others)
    top       null: every query is its best class. Otherwise the best pairs of query and class count, so many of them;
              "queries": as many as the network has queries
    square    true: boxes are shares of the square that the image is padded to (OWLv2); left out otherwise
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from light_scores import sigmoid, softmax

SIDES = ("xmin", "ymin", "xmax", "ymax")


class Detections(NamedTuple):
    """What was found, in the network's order, or the best first if `top` says how many count."""

    scores: np.ndarray  # [found]
    classes: np.ndarray  # [found]
    boxes: np.ndarray  # [found, (xmin, ymin, xmax, ymax)], in pixels


def detect(
    logits: np.ndarray,
    boxes: np.ndarray,
    image_size: np.ndarray,
    threshold: float,
    scores: str,
    top: int | str | None,
    square: bool = False,
) -> Detections:
    """The objects that score more than `threshold`.

    Args:
        logits: [queries, classes].
        boxes: [queries, (middle x, middle y, width, height)], as shares of the image.
        image_size: height and width.
    """
    if square:
        image_size = np.full(2, max(image_size))
    shares = sigmoid(logits) if scores == "sigmoid" else softmax(logits)[:, :-1]
    if top is None:
        found = Detections(shares.max(axis=-1), shares.argmax(axis=-1), to_pixels(boxes, image_size))
    else:
        count = len(logits) if top == "queries" else int(top)
        order = np.argsort(-shares.reshape(-1), kind="stable")[:count]
        query, kind = np.divmod(order, shares.shape[-1])
        found = Detections(shares.reshape(-1)[order], kind, to_pixels(boxes[query], image_size))
    kept = found.scores > threshold
    return Detections(found.scores[kept], found.classes[kept], found.boxes[kept])


def to_pixels(boxes: np.ndarray, image_size: np.ndarray) -> np.ndarray:
    """Boxes by their corners."""
    middle, half = boxes[:, :2], np.float32(0.5) * boxes[:, 2:]
    height, width = (np.float32(size) for size in image_size)
    return np.concatenate([middle - half, middle + half], axis=-1) * np.array([width, height] * 2, np.float32)


def named(found: Detections, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Detections as pipelines return them, by the names of their classes."""
    numbers = zip(found.scores.tolist(), found.classes.tolist(), found.boxes.astype(int).tolist(), strict=True)
    return [
        {"score": score, "label": labels[kind], "box": dict(zip(SIDES, box, strict=True))}
        for score, kind, box in numbers
    ]
