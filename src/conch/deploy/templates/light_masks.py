"""Which of the masks that a network drew at points of an image are things, with numpy alone: what the processors of SAM
do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from light_crops import Box
from light_image import Size, by_longest
from light_overlap import suppress
from light_resize import two_nearest

EDGE = 20  # pixels: masks that end so close to the edge of a crop go on beyond it
STABILITY_OFFSET = 1
BLOCK = 1 << 17  # pixels that are enlarged at once: they stay in the processor's cache


class Limits(NamedTuple):
    """What a mask must reach: request parameters."""

    pred_iou_thresh: float
    stability_score_thresh: float
    mask_threshold: float


class Mask(NamedTuple):
    """Something in an image.

    Attributes:
        score: what the network thinks of it.
        box: left, top, right, bottom of its pixels, all inside.
        crop: where it was found; pixels beyond are not of it.
        runs: where its pixels begin and end in turn, column by column of the crop.
    """

    score: np.float32
    box: tuple[int, int, int, int]
    crop: Box
    runs: np.ndarray


class Enlarging:
    """Maps of the network brought to the size of a crop, as torch interpolates them one time after the other: to the
    square that the network was given, whose padding is cut off, and from there.

    Both are sums of neighbours, and so is what both make together.
    """

    def __init__(self, drawn: Size, square: Size, crop: Size, longest: int) -> None:
        resized = by_longest(crop, longest)
        self.rows, self.columns = (neighbours(both) for both in map(composed, drawn, square, resized, crop))
        self.crop = crop

    def __call__(self, drawn: np.ndarray) -> Iterator[np.ndarray]:
        """FP32 [some columns, height] of a map, from left to right."""
        high = np.ascontiguousarray(weighed(drawn, *self.rows).T)
        step = max(1, BLOCK // self.crop[0])
        which, shares = self.columns
        for start in range(0, len(which), step):
            yield weighed(high, which[start : start + step], shares[start : start + step])


def composed(drawn: int, square: int, resized: int, crop: int) -> np.ndarray:
    """How much each of `drawn` values counts for each of `crop`, [crop, drawn]."""
    return weights(resized, crop) @ weights(drawn, square)[:resized]


def weights(given: int, size: int) -> np.ndarray:
    first, second, *shares = two_nearest(given, size)
    found = np.zeros((size, given))
    for which, share in zip((first, second), shares, strict=True):
        np.add.at(found, (np.arange(size), which), share)
    return found


def neighbours(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of weights that lie side by side: which values count, and how much, both [size, some]."""
    first = (found != 0).argmax(axis=1)
    last = found.shape[1] - (found[:, ::-1] != 0).argmax(axis=1)
    count = int((last - first).max())
    which = np.minimum(first, found.shape[1] - count)[:, None] + np.arange(count)
    return which, np.take_along_axis(found, which, 1).astype(np.float32)


def weighed(values: np.ndarray, which: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """FP32 [size, ..] of values [rows, ..]."""
    total = values[which[:, 0]] * shares[:, :1]
    for column in range(1, which.shape[1]):
        total += values[which[:, column]] * shares[:, column : column + 1]
    return total


def find(
    drawn: np.ndarray, scores: np.ndarray, enlarging: Enlarging, crop: Box, image: Size, limits: Limits
) -> list[Mask]:
    """Those masks that are good enough.

    Args:
        drawn: logits [masks, height, width]; `scores` [masks] are what the network thinks of them.
        image: the size of the whole image.
    """
    found = []
    for number, score in enumerate(scores):
        # An enlarged mask costs more than all else: not of those that are not trusted anyway.
        if limits.pred_iou_thresh > 0 and not score > limits.pred_iou_thresh:
            continue
        stable, pixels = binary(enlarging(drawn[number]), limits)
        if limits.stability_score_thresh > 0 and not stable > limits.stability_score_thresh:
            continue
        box = box_of(pixels, crop)
        if not cut_off(box, crop, image):
            found.append(Mask(score, box, crop, runs_of(pixels)))
    return found


def binary(columns: Iterator[np.ndarray], limits: Limits) -> tuple[np.float32, np.ndarray]:
    """How little a mask changes with the threshold, and its pixels, BOOL [width, height]."""
    high, low = limits.mask_threshold + STABILITY_OFFSET, limits.mask_threshold - STABILITY_OFFSET
    surely = possibly = 0
    pixels = []
    for each in columns:
        surely += np.count_nonzero(each > high)
        possibly += np.count_nonzero(each > low)
        pixels.append(each > limits.mask_threshold)
    with np.errstate(invalid="ignore"):
        return np.float32(surely) / np.float32(possibly), np.concatenate(pixels)


def box_of(pixels: np.ndarray, crop: Box) -> tuple[int, int, int, int]:
    """Where pixels [width, height] of a crop lie in the image; the corner of the crop if there are none."""
    columns, rows = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    left, top = crop[:2]
    if not len(rows):
        return left, top, left, top
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]), top + int(rows[-1])


def cut_off(box: tuple[int, int, int, int], crop: Box, image: Size) -> bool:
    """Whether a mask ends at an edge of its crop that is none of the image."""
    whole = (0, 0, image[1], image[0])
    return any(abs(at - edge) <= EDGE and abs(at - end) > EDGE for at, edge, end in zip(box, crop, whole, strict=True))


def runs_of(pixels: np.ndarray) -> np.ndarray:
    flat = np.concatenate([[False], pixels.reshape(-1), [False]])
    return np.flatnonzero(flat[1:] != flat[:-1]).astype(np.int32)


def pixels_of(mask: Mask, image: Size) -> np.ndarray:
    """BOOL [height, width] of the whole image."""
    left, top, right, bottom = mask.crop
    height, width = bottom - top, right - left
    changes = np.zeros(height * width + 1, np.int8)
    changes[mask.runs] = 1
    whole = np.zeros(image, bool)
    whole[top:bottom, left:right] = (np.cumsum(changes[:-1], dtype=np.int32) % 2 == 1).reshape(width, height).T
    return whole


def best(masks: list[Mask], threshold: float) -> list[Mask]:
    """Of masks whose boxes overlap, the best; the best first."""
    boxes = np.array([mask.box for mask in masks], np.float32).reshape(-1, 4)
    scores = np.array([mask.score for mask in masks], np.float32)
    return [masks[number] for number in suppress(boxes, scores, threshold)]
