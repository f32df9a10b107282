"""From what a network says of an image to its segments, with numpy alone: what transformers' processors do.

A network says of each pixel how much it is of each class (`classes` [classes, height, width]), or it has queries: of
each, which class it found (`classes` [queries, classes + 1], the last means nothing) and where (`masks` [queries,
height, width]). Settings:

    classes, masks    the names of these among the network's outputs; masks are null for networks without queries
    grid              [height, width] that masks are brought to first; null for none
    instances         "segments": instances are found as panoptic segments are. "pairs": the best pairs of query and
                      class are instances, and may overlap (MaskFormer). "shared": these are, and share the pixels
                      among them (OneFormer). null: they are not found
    smooth            true: masks that become smaller are averaged (OneFormer); left out otherwise
    inside            [shortest, longest edge] of the image where it lies on the grid, padded (EoMT); left out otherwise
    split             in place of grid, instances and inside: the edge of the squares that images are cut into (EoMT)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from light_image import by_bounds, by_shortest, part_starts
from light_resize import resize_bilinear, resize_nearest, rows_bilinear, rows_smoothed
from light_scores import sigmoid, softmax
from light_select import largest
from light_subtasks import chosen_subtask

DIGITS = 6  # of a score


class Segment(NamedTuple):
    kind: int  # the number of its class
    score: float | None  # None if only pixels were asked for their class
    mask: np.ndarray  # BOOL [height, width]


class Limits(NamedTuple):
    """What a segment must reach: request parameters."""

    threshold: float
    mask_threshold: float
    overlap_mask_area_threshold: float


def find(
    sample: dict[str, np.ndarray],
    height: int,
    width: int,
    subtask: str | None,
    limits: Limits,
    classes: str,
    masks: str | None,
    grid: list[int] | None,
    instances: str | None,
    inside: list[int] | None = None,
    smooth: bool = False,
) -> list[Segment]:
    """The segments of an image of that size."""
    possible = ("panoptic", *(("instance",) if instances else ()), "semantic") if masks else ("semantic",)
    chosen = chosen_subtask(subtask, possible)
    if not masks:
        return regions(sample[classes], height, width)
    said = (sample[classes], sample[masks], height, width)
    if chosen == "semantic":
        return regions_of_queries(*said, grid)
    if inside:
        return segments_inside(*said, limits, grid, inside)
    if chosen == "instance" and instances == "pairs":
        return pairs(*said, limits, grid)
    return segments(*said, limits, grid, shared=chosen == "instance" and instances == "shared", smooth=smooth)


def find_parts(
    parts: list[dict[str, np.ndarray]],
    height: int,
    width: int,
    subtask: str | None,
    limits: Limits,
    classes: str,
    masks: str,
    split: int,
) -> list[Segment]:
    """The segments of an image that was cut into squares; of more than one, only classes of pixels are put together."""
    grid = [split, split]
    if len(parts) == 1:
        return find(parts[0], height, width, subtask, limits, classes, masks, grid, None, [split, 2 * split])
    if subtask != "semantic":
        raise ValueError(
            f"the image is cut into {len(parts)} parts, of which only the classes of pixels can be put together: "
            f"request parameter 'subtask' should be semantic, got {subtask!r}"
        )
    high, wide = by_shortest((height, width), split)
    sums = np.zeros((parts[0][classes].shape[-1] - 1, high, wide), np.float32)
    counts = np.zeros((high, wide), np.float32)
    for part, start in zip(parts, part_starts(max(high, wide), split), strict=True):
        place = np.s_[start : start + split, :] if high > wide else np.s_[:, start : start + split]
        sums[:, *place] += classes_of_queries(part[classes], part[masks], grid)
        counts[place] += 1
    return regions(sums / counts, height, width)


def regions(classes: np.ndarray, height: int, width: int) -> list[Segment]:
    """Where each class is the best."""
    best = np.stack([row.argmax(axis=0) for row in rows_bilinear(classes, height, width)])
    return [Segment(int(kind), None, best == kind) for kind in np.unique(best)]


def regions_of_queries(
    classes: np.ndarray, masks: np.ndarray, height: int, width: int, grid: list[int] | None
) -> list[Segment]:
    """Where each class is the best, of what queries found."""
    return regions(classes_of_queries(classes, masks, grid), height, width)


def classes_of_queries(classes: np.ndarray, masks: np.ndarray, grid: list[int] | None) -> np.ndarray:
    """How much each pixel is of each class, [classes, height, width]."""
    places = sigmoid(on_grid(masks, grid))
    sums: np.ndarray = softmax(classes)[:, :-1].T @ places.reshape(len(places), -1)
    return sums.reshape(-1, *places.shape[1:])


def segments(
    classes: np.ndarray,
    masks: np.ndarray,
    height: int,
    width: int,
    limits: Limits,
    grid: list[int] | None,
    *,
    shared: bool = False,
    smooth: bool = False,
) -> list[Segment]:
    """What queries found, each where it is the surest; or, if `shared`, what the best pairs of query and class did."""
    scores, kinds, kept = (found_pairs if shared else found_queries)(classes, limits)
    if not len(scores):
        return []
    places = on_grid(masks[kept], grid)
    if not shared:
        places = sigmoid(places)
    rows = rows_smoothed if smooth else rows_bilinear
    owner = np.empty((height, width), np.int64)
    whole = np.zeros(len(places), np.int64)  # how many pixels each would have alone
    for number, row in enumerate(rows(places, height, width)):
        row *= scores[:, None]
        owner[number] = row.argmax(axis=0)
        whole += (row >= np.float32(limits.mask_threshold)).sum(axis=-1)
    found = []
    for query, (kind, score) in enumerate(zip(kinds.tolist(), scores.tolist(), strict=True)):
        mask = owner == query
        seen = np.count_nonzero(mask)
        if seen and whole[query]:
            share = float(np.float32(seen) / np.float32(whole[query]))
            if share > limits.overlap_mask_area_threshold:
                found.append(Segment(kind, round(score, DIGITS), mask))
    return found


def segments_inside(
    classes: np.ndarray,
    masks: np.ndarray,
    height: int,
    width: int,
    limits: Limits,
    grid: list[int] | None,
    inside: list[int],
) -> list[Segment]:
    """The same of masks of padded images; a segment ends where its query is not sure of its own."""
    scores, kinds, kept = found_queries(classes, limits)
    if not kept.any():
        return []
    high, wide = by_bounds((height, width), *inside)
    owner, sure = np.empty((height, width), np.int64), np.empty((height, width), bool)
    whole = np.zeros(len(scores), np.int64)
    for number, row in enumerate(rows_bilinear(on_grid(masks[kept], grid)[:, :high, :wide], height, width)):
        places = sigmoid(row)
        owner[number] = (places * scores[:, None]).argmax(axis=0)
        reached = places >= np.float32(limits.mask_threshold)
        sure[number] = np.take_along_axis(reached, owner[number][None], 0)[0]
        whole += reached.sum(axis=-1)
    found = []
    for query, (kind, score) in enumerate(zip(kinds.tolist(), scores.tolist(), strict=True)):
        mask = owner == query
        seen = np.count_nonzero(mask)
        mask &= sure
        if mask.any() and float(np.float32(seen) / np.float32(whole[query])) > limits.overlap_mask_area_threshold:
            found.append(Segment(kind, round(score, DIGITS), mask))
    return found


def found_queries(classes: np.ndarray, limits: Limits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores and classes of the queries that found something, and which these are."""
    shares = softmax(classes)
    scores, kinds = shares.max(axis=-1), shares.argmax(axis=-1)
    kept = (kinds != classes.shape[-1] - 1) & (scores > np.float32(limits.threshold))
    return scores[kept], kinds[kept], kept


def found_pairs(classes: np.ndarray, limits: Limits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores and classes of the best pairs of query and class, as many as queries, and their queries."""
    scores, kinds, query = best_pairs(classes)
    kept = scores > np.float32(limits.threshold)
    return scores[kept], kinds[kept], query[kept]


def best_pairs(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shares = softmax(classes)[:, :-1]
    order = largest(shares.reshape(-1), len(classes))
    query, kinds = np.divmod(order, shares.shape[-1])
    return shares.reshape(-1)[order], kinds, query


def pairs(
    classes: np.ndarray, masks: np.ndarray, height: int, width: int, limits: Limits, grid: list[int] | None
) -> list[Segment]:
    """The best pairs of query and class, as many as queries; each hides those before it."""
    shares, kinds, query = best_pairs(classes)
    logits = on_grid(masks, grid)
    inside = logits > 0
    sure = (sigmoid(logits) * inside).sum(axis=(1, 2)) / (inside.sum(axis=(1, 2), dtype=np.float32) + np.float32(1e-6))
    scores = (shares * sure[query]).tolist()
    owner = np.full((height, width), -1)
    found = []
    for index, kind, score in zip(query.tolist(), kinds.tolist(), scores, strict=True):
        mask = resize_nearest(inside[index], height, width)
        if score >= limits.threshold and mask.any():
            owner[mask] = len(found)
            found.append((kind, score))
    return [Segment(kind, round(score, DIGITS), owner == number) for number, (kind, score) in enumerate(found)]


def on_grid(masks: np.ndarray, grid: list[int] | None) -> np.ndarray:
    return resize_bilinear(masks, *grid) if grid else masks
