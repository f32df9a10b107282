"""The largest of many numbers in the order in which torch gives them, with numpy alone."""

from __future__ import annotations

import numpy as np

SORTED_SHARE = 64  # torch sorts the largest only if they are at most one of that many numbers


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` largest of values [n] are, in the order of an unsorted `topk` of torch on a CPU.

    Of many numbers that order is that of the numbers. Otherwise it is what C++'s `nth_element` leaves (of GNU's
    library): parts around a pivot, the median of three, until the part that holds the last one wanted is tiny.
    """
    if count * SORTED_SHARE <= len(values):
        return np.argsort(-values, kind="stable")[:count]
    pairs = list(zip(values.tolist(), range(len(values)), strict=True))
    first, end, last = 0, len(pairs), count - 1
    rounds = 2 * (len(pairs).bit_length() - 1)
    while end - first > 3:
        if not rounds:  # only numbers that are made for it lead here
            pairs[first:end] = sorted(pairs[first:end], key=lambda pair: -pair[0])
            break
        rounds -= 1
        cut = parted(pairs, first, end)
        first, end = (cut, end) if cut <= last else (first, cut)
    else:
        pairs[first:end] = sorted(pairs[first:end], key=lambda pair: -pair[0])
    return np.array([index for _, index in pairs[:count]], np.int64)


def parted(pairs: list[tuple[float, int]], first: int, end: int) -> int:
    """Bring the larger of pairs[first:end] before the others; where the others begin."""
    one, two, three = first + 1, first + (end - first) // 2, end - 1
    middle = sorted((one, two, three), key=lambda index: pairs[index][0])[1]
    pairs[first], pairs[middle] = pairs[middle], pairs[first]
    pivot = pairs[first][0]
    left, right = first + 1, end
    while True:
        while pairs[left][0] > pivot:
            left += 1
        right -= 1
        while pairs[right][0] < pivot:
            right -= 1
        if left >= right:
            return left
        pairs[left], pairs[right] = pairs[right], pairs[left]
        left += 1
