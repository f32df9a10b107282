"""Maps of numbers brought to another size with numpy alone, as torch interpolates them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

SHARPNESS = np.float32(-0.75)  # of the cubic curve; Pillow's is -0.5, and it smooths what it makes smaller


def resize_bicubic(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """FP32 [height, width] of a map of any size; its border goes on beyond it."""
    wide = sum_of_four(values.astype(np.float32, copy=False), width)
    return np.ascontiguousarray(sum_of_four(wide.T, height).T)


def resize_depth(depth: np.ndarray, height: int, width: int, border: int) -> np.ndarray:
    """FP32 [height, width] of the depth of an image that `framed` gave a border."""
    high, wide = border_of(height, border), border_of(width, border)
    whole = resize_bicubic(depth, height + 2 * high, width + 2 * wide)
    return whole[high : high + height, wide : wide + width]


def framed(image: np.ndarray, border: int) -> np.ndarray:
    """Pixels [height, width, channels] with a border that is their mirror, wider around a larger image (ZoeDepth)."""
    high, wide = (border_of(size, border) for size in image.shape[:2])
    return np.pad(image, ((high, high), (wide, wide), (0, 0)), mode="reflect")


def border_of(size: int, border: int) -> int:
    return int(math.sqrt(size / 2) * border)


def sum_of_four(values: np.ndarray, size: int) -> np.ndarray:
    """The last axis brought to `size`: each new value is made of the four nearest."""
    given = values.shape[-1]
    place = places(given, size)
    first = np.floor(place)
    total = np.zeros((*values.shape[:-1], size), np.float32)
    for offset in (-1, 0, 1, 2):
        distance = np.abs(place - first - np.float32(offset))
        neighbour = np.clip(first.astype(np.int64) + offset, 0, given - 1)
        total += values[..., neighbour] * cubic(distance)
    return total


def places(given: int, size: int) -> np.ndarray:
    """Where the middle of each of `size` new values lies among the given ones."""
    # The factor is rounded as torch rounds it, the product is not: its processors multiply and subtract in one step.
    factor = np.float32(given) / np.float32(size)
    place: np.ndarray = (np.float64(factor) * (np.arange(size) + 0.5) - 0.5).astype(np.float32)
    return place


def cubic(distance: np.ndarray) -> np.ndarray:
    """How much a value counts at a distance of at most 2."""
    near = ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance * distance + 1
    far = ((SHARPNESS * distance - 5 * SHARPNESS) * distance + 8 * SHARPNESS) * distance - 4 * SHARPNESS
    return np.where(distance <= 1, near, far).astype(np.float32)


def resize_bilinear(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """FP32 [maps, height, width] of maps of any size."""
    rows = list(rows_bilinear(values, height, width))
    return np.stack(rows, axis=1)


def rows_bilinear(values: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
    """The rows of `resize_bilinear`, [maps, width], one after the other: all maps at once may need much memory.

    They are torch's to the last bit, unless height and width add up to 128 at most: it adds in another order there.
    """
    upper, lower, share, rest = two_nearest(values.shape[1], height)
    left, right, *shares = two_nearest(values.shape[2], width)
    wide: dict[int, np.ndarray] = {}  # the rows in use, as wide as the result
    for row in range(height):
        used = (int(upper[row]), int(lower[row]))
        wide = {each: wide[each] for each in used if each in wide}
        for each in used:
            if each not in wide:
                wide[each] = weighed(values[:, each, left], values[:, each, right], *shares)
        yield weighed(wide[used[0]], wide[used[1]], share[row], rest[row])


def two_nearest(given: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the two values lie that each of `size` new ones is made of, and how much they count: FP32 shares."""
    if given == size:
        same = np.arange(size)
        return same, same, np.ones(size, np.float32), np.zeros(size, np.float32)
    place = np.maximum(places(given, size), np.float32(0))
    first = np.minimum(place.astype(np.int64), given - 1)
    rest = np.clip(place - first.astype(np.float32), np.float32(0), np.float32(1))
    return first, np.minimum(first + 1, given - 1), np.float32(1) - rest, rest


def rows_smoothed(values: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
    """The same of maps whose values are averaged where they become fewer, as torch's `antialias` does."""
    columns = triangle_weights(values.shape[2], width)
    wide: dict[int, np.ndarray] = {}
    for neighbours, weights in zip(*triangle_weights(values.shape[1], height), strict=True):
        used = [(row, share) for row, share in zip(neighbours.tolist(), weights, strict=True) if share]
        wide = {row: wide[row] for row, _ in used if row in wide}
        for row, _ in used:
            if row not in wide:
                wide[row] = weighed_rows(values[:, row].T, *columns).T
        total = np.zeros((len(values), width), np.float32)
        for row, share in used:
            total += wide[row] * share
        yield total


def weighed(first: np.ndarray, second: np.ndarray, share: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Of the two products the first is not rounded: torch's processors multiply and add in one step."""
    return (first * np.asarray(share, np.float64) + second * rest).astype(np.float32)


def resize_nearest(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps [.., height, width] made of the values of maps of any size, one for each."""
    rows, columns = (nearest(*sizes) for sizes in zip(values.shape[-2:], (height, width), strict=True))
    return values[..., rows[:, None], columns]


def nearest(given: int, size: int) -> np.ndarray:
    factor = np.float32(given) / np.float32(size)
    return np.minimum((np.arange(size, dtype=np.float32) * factor).astype(np.int64), given - 1)


def resize_smooth(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """FP32 [height, width, channels] of an image [rows, columns, channels] on a square, black beyond the image: blurred
    by a Gaussian if that makes it smaller, then interpolated linearly, as SciPy and scikit-image do."""
    side = max(image.shape[:2])
    return both_ways(image, smooth_weights(side, height), smooth_weights(side, width))


def resize_corners(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """FP32 [height, width, channels] of an image of any size, interpolated linearly, the corners where they were."""
    return both_ways(image, corner_weights(len(image), height), corner_weights(image.shape[1], width))


Weights = tuple[np.ndarray, np.ndarray]  # which values each new one is made of, and how much they count: [size, some]


def both_ways(image: np.ndarray, high: Weights, wide: Weights) -> np.ndarray:
    rows = weighed_rows(image, *high)
    return np.ascontiguousarray(weighed_rows(rows.transpose(1, 0, 2), *wide).transpose(1, 0, 2))


def weighed_rows(values: np.ndarray, neighbours: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """FP32 [size, ..] of values [rows, ..]; behind the last row all is 0."""
    weights = np.where(neighbours < len(values), weights, 0).astype(np.float32)
    neighbours = np.minimum(neighbours, len(values) - 1)
    total = np.zeros((len(weights), *values.shape[1:]), np.float32)
    for which, share in zip(neighbours.T, weights.T, strict=True):
        if share.any():
            total += values[which] * share.reshape(-1, *[1] * (values.ndim - 1))
    return total


def corner_weights(given: int, size: int) -> Weights:
    place = np.arange(size) * ((given - 1) / (size - 1) if size > 1 else 0.0)
    first = place.astype(np.int64)
    rest = place - first
    return np.stack([first, np.minimum(first + 1, given - 1)], axis=1), np.stack([1 - rest, rest], axis=1)


def triangle_weights(given: int, size: int) -> Weights:
    """The nearest count most; how far it goes follows from how many values become one. All is rounded as torch does."""
    one, half = np.float32(1), np.float32(0.5)
    factor = np.float32(given) / np.float32(size)
    reach = max(one, factor)
    middle = ((np.arange(size, dtype=np.float32) + half) * factor)[:, None]
    first = np.maximum(np.floor(middle - reach + half), 0).astype(np.int64)
    neighbours = first + np.arange(int(2 * reach) + 2)
    distance = np.abs((neighbours + 0.5).astype(np.float32) - middle)
    weights = np.maximum(one - distance * (one / reach), 0) * (neighbours < given)
    return np.minimum(neighbours, given - 1), weights / weights.sum(axis=1, keepdims=True)


def smooth_weights(given: int, size: int) -> Weights:
    """Beyond the border the values go on as in a mirror that lies on the last one."""
    factor = given / size
    deviation = max(0.0, (factor - 1) / 2)
    radius = int(4 * deviation + 0.5)
    distance = np.arange(-radius, radius + 1)
    blur = np.exp(-0.5 * (distance / deviation) ** 2) if radius else np.ones(1)
    blur /= blur.sum()
    place = (np.arange(size) + 0.5) * factor - 0.5
    first = np.floor(place)
    rest = (place - first)[:, None]
    neighbours = first.astype(np.int64)[:, None] + np.arange(-radius, radius + 2)
    period = max(1, 2 * (given - 1))
    neighbours = np.abs(neighbours) % period
    return np.minimum(neighbours, period - neighbours), np.pad((1 - rest) * blur, ((0, 0), (0, 1))) + np.pad(
        rest * blur, ((0, 0), (1, 0))
    )
