"""Crops of an image, and the points in each at which masks are looked for: what the processors of SAM do.

The first crop is the whole image. Each further layer cuts it into twice as many rows and columns, which overlap.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from light_image import Size, by_longest

Box = tuple[int, int, int, int]  # left, top, right, bottom: the last two lie outside

OVERLAP = 512 / 1500  # of the crops of the first layer, of the shorter edge of the image


def crop_boxes(height: int, width: int, layers: int) -> list[Box]:
    """Of the image and its crops, layer by layer."""
    boxes = [(0, 0, width, height)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(OVERLAP * min(height, width) * (2 / count))
        wide, high = (math.ceil((overlap * (count - 1) + size) / count) for size in (width, height))
        starts = itertools.product(
            [(wide - overlap) * number for number in range(count)],
            [(high - overlap) * number for number in range(count)],
        )
        boxes += [(left, top, min(left + wide, width), min(top + high, height)) for left, top in starts]
    return boxes


def grid_points(crop: Size, longest: int, side: int) -> np.ndarray:
    """FP32 [side * side, 2]: x, y of points spread evenly over a crop, in the pixels that the network is given."""
    places = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    high, wide = (
        places * size * (resized / size) for size, resized in zip(crop, by_longest(crop, longest), strict=True)
    )
    x, y = np.meshgrid(wide, high)
    return np.stack([x.reshape(-1), y.reshape(-1)], axis=-1).astype(np.float32)
