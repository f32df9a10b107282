"""Compare a deployed model with the library it came from: the same samples through both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from conch.deploy.plan import Plan
from conch.deploy.samples import Sample, make_samples
from conch.errors import ConchError

#: Calls the deployed model: (tensors, request parameters) -> output tensors; BYTES are arrays of `bytes`.
Infer = Callable[[dict[str, np.ndarray], dict[str, Any]], Awaitable[dict[str, np.ndarray]]]

#: Largest difference accepted, relative to the largest value of the output.
TOLERANCE = {"float32": 1e-4, "float64": 1e-4, "float16": 2e-2, "bfloat16": 5e-2}
_INTEGER_TOLERANCE = 1e-3  # share of integers that may differ, by 1 or more
_SMALLEST_SCALE = 1e-3
_IMAGE = ...  # stands for an image in `json`: compared in the typed outputs, which hold it too


class Truth(Protocol):
    """The library's own model, as `conch.deploy.reference.Reference` is one."""

    pipe: Any

    @property
    def dtype(self) -> str: ...

    def answer(self, sample: Sample) -> dict[str, Any]: ...


class Row(msgspec.Struct, frozen=True):
    """What was found of one output: the largest difference over all samples, and what would be accepted."""

    output: str
    difference: float
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance


class Verification(msgspec.Struct, frozen=True):
    """The outcome: one row an output that was compared, and the errors of samples that failed."""

    rows: tuple[Row, ...]
    errors: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.errors and bool(self.rows) and all(row.passed for row in self.rows)


class Cases(msgspec.Struct, frozen=True):
    """Samples, what the library answered to each, and the largest relative difference to accept."""

    samples: tuple[Sample, ...]
    expected: tuple[Mapping[str, Any], ...]
    tolerance: float


def make_cases(plan: Plan, truth: Truth) -> Cases:
    """Ask the library. Afterwards its model can go, before the deployed one is loaded."""
    samples = tuple(make_samples(plan, truth.pipe))
    expected = tuple(truth.answer(sample) for sample in samples)
    return Cases(samples, expected, TOLERANCE.get(truth.dtype, 1e-4))


async def verify(plan: Plan, cases: Cases, infer: Infer) -> Verification:
    """Send every sample alone, then all of them at once, and compare each answer."""
    answers: list[dict[str, np.ndarray] | BaseException] = []
    for sample in cases.samples:
        answers += await asyncio.gather(_send(plan, sample, infer), return_exceptions=True)
    answers += await asyncio.gather(*(_send(plan, sample, infer) for sample in cases.samples), return_exceptions=True)
    found: dict[str, Row] = {}
    errors: dict[str, None] = {}
    for want, answer in zip(cases.expected * 2, answers, strict=True):
        if isinstance(answer, BaseException):
            if not isinstance(answer, ConchError | ValueError | RuntimeError):
                raise answer
            errors[str(answer)] = None
            continue
        for row in compare(want, answer, cases.tolerance):
            if row.output not in found or row.difference > found[row.output].difference:
                found[row.output] = row
        errors.update(dict.fromkeys(_wrong_shapes(plan, answer)))
    return Verification(rows=tuple(found.values()), errors=tuple(errors))


async def _send(plan: Plan, sample: Sample, infer: Infer) -> dict[str, np.ndarray]:
    """The answer to one sample, without batch dimension."""
    batched = plan.max_batch_size > 0
    inputs = {name: array[None] if batched else array for name, array in sample.inputs.items()}
    outputs = await infer(inputs, dict(sample.parameters))
    return {name: array[0] if batched else array for name, array in outputs.items()}


def compare(expected: Mapping[str, Any], answer: Mapping[str, np.ndarray], tolerance: float) -> list[Row]:
    """One row an expected output."""
    rows = []
    for name, want in expected.items():
        if name not in answer:
            rows.append(Row(name, float("inf"), 0.0, "the model did not return it"))
        elif name == "json":
            text = bytes(answer[name].reshape(-1)[0]).decode()
            rows.append(Row(name, *_compare_trees(_plain(want), json.loads(text), tolerance)))
        else:
            rows.append(Row(name, *_compare_arrays(np.asarray(want), answer[name], tolerance)))
    return rows


def _compare_arrays(want: np.ndarray, got: np.ndarray, tolerance: float) -> tuple[float, float, str]:
    """Largest difference, tolerance and a note."""
    if want.shape != got.shape and want.size + got.size:
        return float("inf"), tolerance, f"expected shape {list(want.shape)}, got {list(got.shape)}"
    if not want.size:
        return 0.0, tolerance, "empty"
    if got.dtype == object:
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in got.reshape(-1)]
        wrong = [(a, b) for a, b in zip(map(str, want.reshape(-1).tolist()), texts, strict=True) if a != b]
        note = f"expected {wrong[0][0]!r}, got {wrong[0][1]!r}" if wrong else "texts are equal"
        return float(len(wrong)), 0.0, note
    if np.issubdtype(got.dtype, np.integer):
        return float(np.mean(want.astype(np.int64) != got)), _INTEGER_TOLERANCE, "share of integers that differ"
    difference = np.abs(want.astype(np.float64) - got)
    scale = max(float(np.max(np.abs(want))), _SMALLEST_SCALE)
    return float(np.max(difference)), tolerance * scale, ""


def _compare_trees(want: Any, got: Any, tolerance: float) -> tuple[float, float, str]:
    """Compare two JSON values: numbers within the tolerance, everything else exactly."""
    largest, allowed = 0.0, tolerance
    for path, a, b in _leaves(want, got, "$"):
        if isinstance(a, float) and isinstance(b, float | int):
            largest, allowed = max(largest, abs(a - b)), max(allowed, tolerance * abs(a))
        elif a != b and not (a is _IMAGE and isinstance(b, str)):
            return float("inf"), tolerance, f"{path}: expected {a!r:.80}, got {b!r:.80}"
    return largest, allowed, ""


def _leaves(want: Any, got: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(want, dict) and isinstance(got, dict) and want.keys() == got.keys():
        for key in want:
            yield from _leaves(want[key], got[key], f"{path}.{key}")
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for index, (a, b) in enumerate(zip(want, got, strict=True)):
            yield from _leaves(a, b, f"{path}[{index}]")
    else:
        yield path, want, got


def _plain(value: Any) -> Any:
    """A pipeline's result as the JSON values that models make of it, images as `_IMAGE`."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "save"):
        return _IMAGE
    return value.tolist() if hasattr(value, "tolist") else value


def _wrong_shapes(plan: Plan, answer: Mapping[str, np.ndarray]) -> Iterator[str]:
    for spec in plan.outputs:
        if spec.name in answer:
            shape = answer[spec.name].shape
            fits = len(shape) == len(spec.dims) and all(
                dim in (-1, size) for dim, size in zip(spec.dims, shape, strict=True)
            )
            if not fits:
                yield f"output '{spec.name}' should have the shape {list(spec.dims)}, got {list(shape)}"


def table(verification: Verification) -> str:
    """The outcome for people."""
    header = ("output", "largest difference", "accepted", "")
    lines: Sequence[tuple[str, str, str, str]] = [
        header,
        *(
            (row.output, f"{row.difference:.2g}", f"{row.tolerance:.2g}", "ok" if row.passed else f"FAILED {row.note}")
            for row in verification.rows
        ),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    text = [
        f"  {name:<{widths[0]}}  {difference:>{widths[1]}}  {accepted:>{widths[2]}}  {state}".rstrip()
        for name, difference, accepted, state in lines
    ]
    return "\n".join([*text, *(f"  FAILED {error}" for error in verification.errors)])
