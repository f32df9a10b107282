"""The comparison of answers finds what differs and names the place."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.checkpoints.compare import mismatches

SAME: list[tuple[Any, Any]] = [
    ({"label": "cat", "score": 0.5}, {"score": 0.5, "label": "cat"}),
    ([1, (2.0, 3)], (1, [2, 3.0])),
    (np.ones((2, 3)), np.ones((2, 3), np.float32)),
    (0.123456, np.float32(0.1234567)),
    (Image.new("L", (3, 2), 7), np.full((2, 3), 7, np.uint8)),
    (None, None),
    ("text", "text"),
]

DIFFERENT: list[tuple[Any, Any, str]] = [
    ({"label": "cat"}, {"label": "dog"}, r"answer\['label'\]: expected 'cat', got 'dog'"),
    ({"label": "cat"}, {"name": "cat"}, "expected the keys"),
    ([1, 2], [1], "expected 2 items, got 1"),
    ([{"score": 0.5}], [{"score": 0.6}], r"answer\[0\]\['score'\]: differs by up to 0.1"),
    (np.ones((2, 3)), np.ones((3, 2)), r"expected the shape \(2, 3\), got \(3, 2\)"),
    (None, 0.0, "expected None, got 0.0"),
    ("1", 1, "expected '1', got 1"),
    (Image.new("L", (3, 2), 7), Image.new("L", (3, 2), 9), "differs by up to 2"),
]


@pytest.mark.parametrize(("expected", "actual"), SAME)
def test_same_answers_have_no_mismatch(expected: Any, actual: Any) -> None:
    assert mismatches(expected, actual) == []


@pytest.mark.parametrize(("expected", "actual", "text"), DIFFERENT)
def test_difference_is_named_with_its_place(expected: Any, actual: Any, text: str) -> None:
    (line,) = mismatches(expected, actual)

    assert line.startswith("answer")
    assert re.search(text, line)


def test_share_of_pixels_may_differ() -> None:
    expected = {"masks": np.zeros((10, 10), np.uint8)}
    one, two = (
        {"masks": np.where(np.arange(100).reshape(10, 10) < count, 255, 0).astype(np.uint8)} for count in (1, 2)
    )
    assert mismatches(expected, one) != []
    assert mismatches(expected, one, pixels=0.01) == []
    assert mismatches(expected, two, pixels=0.01) != []
