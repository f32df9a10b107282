"""Compare answers of any nesting: dictionaries, sequences, arrays, tensors, images, numbers, texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image


def mismatches(
    expected: Any, actual: Any, rtol: float = 1e-4, atol: float = 1e-5, path: str = "answer", pixels: float = 0.0
) -> list[str]:
    """Where `actual` is not `expected`, one line a place; empty when they are the same.

    Numbers agree within `atol + rtol * |expected|`. A tuple equals a list of the same items, a tensor an array of the
    same values and shape; dictionaries need the same keys. Pixels (unsigned bytes) may differ by one, since a float
    that lies close to a step is rounded either way; `pixels` is the share of those of an array that may differ more.
    """
    expected, actual = _plain(expected), _plain(actual)
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        if set(expected) != set(actual):
            return [f"{path}: expected the keys {sorted(expected)}, got {sorted(actual)}"]
        return [
            line
            for key in expected
            for line in mismatches(expected[key], actual[key], rtol, atol, f"{path}[{key!r}]", pixels)
        ]
    if _is_sequence(expected) and _is_sequence(actual):
        if len(expected) != len(actual):
            return [f"{path}: expected {len(expected)} items, got {len(actual)}"]
        pairs = enumerate(zip(expected, actual, strict=True))
        return [line for index, (a, b) in pairs for line in mismatches(a, b, rtol, atol, f"{path}[{index}]", pixels)]
    if _is_number(expected) and _is_number(actual):
        return _array_mismatches(np.asarray(expected), np.asarray(actual), rtol, atol, path, pixels)
    if expected != actual:
        return [f"{path}: expected {expected!r}, got {actual!r}"]
    return []


def _plain(value: Any) -> Any:
    """Tensors and images as arrays, everything else as it is."""
    if isinstance(value, Image.Image):
        return np.asarray(value)
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    return value


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_number(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | int | float) and not isinstance(value, bool)


def _array_mismatches(expected: Any, actual: Any, rtol: float, atol: float, path: str, pixels: float) -> list[str]:
    if expected.shape != actual.shape:
        return [f"{path}: expected the shape {expected.shape}, got {actual.shape}"]
    if expected.dtype == np.uint8:
        atol = 1.0
        if pixels and np.mean(np.abs(expected.astype(int) - actual) > atol) <= pixels:
            return []
    if expected.dtype == bool:
        share = float(np.mean(expected != actual))
        return [f"{path}: {share:.2%} are otherwise"] if share else []
    if np.allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True):
        return []
    difference = np.abs(np.asarray(actual, dtype=np.float64) - np.asarray(expected, dtype=np.float64)).max()
    return [f"{path}: differs by up to {difference:.3g}, more than {atol:g} + {rtol:g} * |expected|"]
