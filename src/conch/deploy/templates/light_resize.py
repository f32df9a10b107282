"""Maps of numbers brought to another size with numpy alone, as torch interpolates them."""

from __future__ import annotations

import numpy as np

SHARPNESS = np.float32(-0.75)  # of the cubic curve; Pillow's is -0.5, and it smooths what it makes smaller


def resize_bicubic(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """FP32 [height, width] of a map of any size; its border goes on beyond it."""
    wide = sum_of_four(values.astype(np.float32, copy=False), width)
    return np.ascontiguousarray(sum_of_four(wide.T, height).T)


def sum_of_four(values: np.ndarray, size: int) -> np.ndarray:
    """The last axis brought to `size`: each new value is made of the four nearest."""
    given = values.shape[-1]
    # The factor is rounded as torch rounds it, the product is not: its processors multiply and subtract in one step.
    factor = np.float32(given) / np.float32(size)
    place = (np.float64(factor) * (np.arange(size) + 0.5) - 0.5).astype(np.float32)
    first = np.floor(place)
    total = np.zeros((*values.shape[:-1], size), np.float32)
    for offset in (-1, 0, 1, 2):
        distance = np.abs(place - first - np.float32(offset))
        neighbour = np.clip(first.astype(np.int64) + offset, 0, given - 1)
        total += values[..., neighbour] * cubic(distance)
    return total


def cubic(distance: np.ndarray) -> np.ndarray:
    """How much a value counts at a distance of at most 2."""
    near = ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance * distance + 1
    far = ((SHARPNESS * distance - 5 * SHARPNESS) * distance + 8 * SHARPNESS) * distance - 4 * SHARPNESS
    return np.where(distance <= 1, near, far).astype(np.float32)
