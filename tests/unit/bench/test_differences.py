from __future__ import annotations

import math

import numpy as np
import pytest

from conch.bench.differences import differences


def one(want: np.ndarray, got: np.ndarray | None) -> tuple[float, float, str]:
    found = {} if got is None else {"y": got}
    (difference,) = differences([{"y": want}], [found])
    return difference.largest, difference.relative, difference.note


def texts(*values: bytes) -> np.ndarray:
    return np.array([*values, None], dtype=object)[:-1]


def test_numbers_are_compared_absolutely_and_against_the_largest_value() -> None:
    largest, relative, _ = one(np.array([1.0, -8.0]), np.array([1.5, -8.0]))
    assert (largest, relative) == (0.5, 0.0625)


def test_the_worst_request_counts() -> None:
    want = [{"y": np.array([1.0])}] * 3
    got = [{"y": np.array([1.0])}, {"y": np.array([1.25])}, {"y": np.array([1.1])}]
    assert differences(want, got)[0].largest == 0.25


def test_unsigned_numbers_do_not_wrap() -> None:
    assert one(np.array([0], np.uint8), np.array([255], np.uint8))[0] == 255


@pytest.mark.parametrize(
    ("got", "note"),
    [(None, "missing"), (np.zeros((2, 2)), "shape [2] against [2, 2]"), (texts(b"a", b"b"), "texts against numbers")],
)
def test_what_cannot_be_compared_is_infinitely_far(got: np.ndarray | None, note: str) -> None:
    assert one(np.zeros(2), got) == (math.inf, math.inf, note)


def test_equal_infinities_and_nans_are_equal() -> None:
    special = np.array([np.inf, -np.inf, np.nan, 1.0])
    assert one(special, special.copy())[0] == 0.0


def test_a_nan_where_a_number_should_be_is_infinitely_far() -> None:
    assert one(np.array([1.0]), np.array([np.nan]))[0] > 1e300


def test_texts_are_counted_and_shown() -> None:
    assert one(texts(b"a", b"b"), texts(b"a", b"c")) == (1.0, 0.5, "'b' against 'c'")


def test_empty_outputs_are_equal() -> None:
    assert one(np.zeros((0, 4)), np.zeros((0, 4))) == (0.0, 0.0, "")
