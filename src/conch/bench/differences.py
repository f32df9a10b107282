"""The same requests to two servers, and how far their outputs are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np


class OutputDifference(msgspec.Struct, frozen=True):
    """What was found of one output over all requests.

    Attributes:
        largest: numbers: largest absolute difference. Texts: how many of them differ.
        relative: numbers: the same divided by the output's largest value (at least 1e-3). Texts: share that differs.
        note: why it is infinite, or an example of texts that differ.
    """

    output: str
    largest: float
    relative: float
    note: str = ""


_SMALLEST_SCALE = 1e-3


def differences(
    expected: Sequence[Mapping[str, np.ndarray]], found: Sequence[Mapping[str, np.ndarray]]
) -> tuple[OutputDifference, ...]:
    """The largest difference of each output of `expected`, answers in the order of the requests."""
    worst: dict[str, OutputDifference] = {}
    for want, got in zip(expected, found, strict=True):
        for name, array in want.items():
            one = _difference(name, array, got.get(name))
            if name not in worst or one.relative > worst[name].relative:
                worst[name] = one
    return tuple(worst.values())


def _difference(name: str, want: np.ndarray, got: np.ndarray | None) -> OutputDifference:
    infinite = float("inf")
    if got is None:
        return OutputDifference(name, infinite, infinite, "missing")
    if want.shape != got.shape:
        return OutputDifference(name, infinite, infinite, f"shape {list(want.shape)} against {list(got.shape)}")
    if (want.dtype == object) != (got.dtype == object):
        return OutputDifference(name, infinite, infinite, "texts against numbers")
    if not want.size:
        return OutputDifference(name, 0.0, 0.0)
    if want.dtype == object:
        pairs = list(zip(want.reshape(-1).tolist(), got.reshape(-1).tolist(), strict=True))
        unequal = [(first, second) for first, second in pairs if first != second]
        note = f"{_shorten(unequal[0][0])} against {_shorten(unequal[0][1])}" if unequal else ""
        return OutputDifference(name, float(len(unequal)), len(unequal) / len(pairs), note)
    first, second = want.astype(np.float64), got.astype(np.float64)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore"):  # infinity minus infinity, which is equal
        apart = np.where(same, 0.0, np.abs(first - second))
    largest = float(np.nan_to_num(apart, nan=np.inf).max())
    finite = np.abs(first[np.isfinite(first)])
    return OutputDifference(name, largest, largest / max(float(finite.max(initial=0.0)), _SMALLEST_SCALE))


def _shorten(text: object) -> str:
    decoded = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return repr(decoded if len(decoded) <= 40 else f"{decoded[:37]}...")
