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

#: Largest difference accepted, relative to the largest value of the output. int8 is a trade that the user asked for:
#: its differences are shown and not judged, but for a core that lost its way (`SMALLEST_COSINE`).
TOLERANCE = {"float32": 1e-4, "float64": 1e-4, "float16": 2e-2, "bfloat16": 5e-2, "int8": float("inf")}
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
    """What was found of one tensor: the largest difference over all samples, and what would be accepted.

    Attributes:
        output: its name.
        stage: the part of an ensemble that makes it; "" for the whole model.
    """

    output: str
    difference: float
    tolerance: float
    note: str = ""
    stage: str = ""

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

    @property
    def failed_stage(self) -> str:
        """The first stage that differs; "" for the model as a whole, or if nothing does."""
        failed = [row.stage for row in self.rows if not row.passed]
        return failed[0] if failed else ""


class Cases(msgspec.Struct, frozen=True):
    """Samples, what the library answered to each, and the largest relative difference to accept."""

    samples: tuple[Sample, ...]
    expected: tuple[Mapping[str, Any], ...]
    tolerance: float


def make_cases(plan: Plan, truth: Truth, dtype: str = "") -> Cases:
    """Ask the library. Afterwards its model can go, before the deployed one is loaded.

    Args:
        dtype: number format of the deployed weights, or "int8"; the library's unless it is said.
    """
    samples = tuple(make_samples(plan, truth.pipe))
    expected = tuple(truth.answer(sample) for sample in samples)
    return Cases(samples, expected, TOLERANCE.get(dtype or truth.dtype, 1e-4))


async def verify(plan: Plan, cases: Cases, infer: Infer, as_rows: Sequence[Sequence[int]] = ()) -> Verification:
    """Send every sample alone, then all of them at once, and compare each answer.

    Args:
        as_rows: numbers of samples that are sent as the rows of one request too, request by request.
    """
    answers: list[dict[str, np.ndarray] | BaseException] = []
    for sample in cases.samples:
        answers += await asyncio.gather(_send(plan, sample, infer), return_exceptions=True)
    answers += await asyncio.gather(*(_send(plan, sample, infer) for sample in cases.samples), return_exceptions=True)
    expected = list(cases.expected * 2)
    for members in as_rows:
        answers += await _send_rows([cases.samples[index] for index in members], infer)
        expected += [cases.expected[index] for index in members]
    found: list[Row] = []
    errors: dict[str, None] = {}
    for number, (want, answer) in enumerate(zip(expected, answers, strict=True)):
        if isinstance(answer, BaseException):
            if not isinstance(answer, ConchError | ValueError | RuntimeError):
                raise answer
            errors[str(answer)] = None
            continue
        if number >= 2 * len(cases.samples):
            answer = _unpadded(want, answer)
        found += compare(want, answer, cases.tolerance)
        errors.update(dict.fromkeys(_wrong_shapes(plan, answer)))
    return Verification(rows=tuple(worst_rows(found)), errors=tuple(errors))


def of_pieces(infer: Infer) -> Infer:
    """A streaming model as one that answers once: its pieces of text put together, of the rest the last word.

    Args:
        infer: returns the outputs of all responses, one after another.
    """

    async def whole(inputs: dict[str, np.ndarray], parameters: dict[str, Any]) -> dict[str, np.ndarray]:
        outputs = await infer(inputs, parameters)
        text = np.array([b"".join(outputs["text"].tolist())], dtype=object)
        return {**{name: array[-1:] for name, array in outputs.items()}, "text": text}

    return whole


def worst_rows(rows: Sequence[Row]) -> list[Row]:
    """The row of the largest difference for every tensor of every stage."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.stage, row.output)
        if key not in found or (row.passed, -row.difference) < (found[key].passed, -found[key].difference):
            found[key] = row
    return list(found.values())


async def _send_rows(samples: Sequence[Sample], infer: Infer) -> list[dict[str, np.ndarray] | BaseException]:
    """The answers to samples that are the rows of one request."""
    inputs = {name: np.stack([sample.inputs[name] for sample in samples]) for name in samples[0].inputs}
    (outcome,) = await asyncio.gather(infer(inputs, dict(samples[0].parameters)), return_exceptions=True)
    if isinstance(outcome, BaseException):
        return [outcome] * len(samples)
    return [{name: array[row] for name, array in outcome.items()} for row in range(len(samples))]


def _unpadded(expected: Mapping[str, Any], answer: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A row of a request without the padding that its longer neighbours brought: numbers of 0, empty texts."""
    cut = dict(answer)
    for name, want in expected.items():
        if name == "json" or name not in answer:
            continue
        shape, array = np.shape(want), answer[name]
        if len(shape) == array.ndim and all(a <= b for a, b in zip(shape, array.shape, strict=True)):
            place = tuple(map(slice, shape))
            rest = array.copy()
            rest[place] = b"" if array.dtype == object else 0
            if not any(rest.reshape(-1).tolist()):
                cut[name] = array[place]
    return cut


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
            rows.append(Row(name, *compare_arrays(np.asarray(want), answer[name], tolerance)))
    return rows


def compare_arrays(want: np.ndarray, got: np.ndarray, tolerance: float) -> tuple[float, float, str]:
    """Largest difference, what is accepted of it, and a note.

    Args:
        tolerance: relative to the largest value; texts must be equal and few integers may differ unless it is infinite.
    """
    lenient = tolerance == float("inf")
    if want.shape != got.shape and want.size + got.size:
        return float("inf"), tolerance, f"expected shape {list(want.shape)}, got {list(got.shape)}"
    if not want.size:
        return 0.0, tolerance, "empty"
    if got.dtype == object:
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in got.reshape(-1)]
        wrong = [(a, b) for a, b in zip(map(str, want.reshape(-1).tolist()), texts, strict=True) if a != b]
        note = f"expected {wrong[0][0]!r}, got {wrong[0][1]!r}" if wrong else "texts are equal"
        return float(len(wrong)), tolerance if lenient else 0.0, note
    if np.issubdtype(got.dtype, np.integer):
        accepted = tolerance if lenient else _INTEGER_TOLERANCE
        return float(np.mean(want.astype(np.int64) != got)), accepted, "share of integers that differ"
    a, b = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    scale = max(float(np.max(np.abs(a[finite]), initial=0.0)), _SMALLEST_SCALE)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf"), tolerance * scale, "infinities or NaN are elsewhere"
    return float(np.max(np.abs(a[finite] - b[finite]), initial=0.0)), tolerance * scale, ""


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
    """The outcome for people; with a column of stages if there are any."""
    staged = any(row.stage for row in verification.rows)
    lines = [(("stage",) if staged else ()) + ("output", "largest difference", "accepted", "")]
    for row in verification.rows:
        accepted = "reported" if row.tolerance == float("inf") else f"{row.tolerance:.2g}"
        state = "ok" if row.passed else f"FAILED {row.note}"
        stage = (row.stage or "whole",) if staged else ()
        lines.append((*stage, row.output, f"{row.difference:.2g}", accepted, state))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    text = []
    for *cells, state in lines:
        names = [cell.ljust(width) for cell, width in zip(cells[:-2], widths, strict=False)]
        numbers = [cell.rjust(width) for cell, width in zip(cells[-2:], widths[-2:], strict=True)]
        text.append("  " + "  ".join([*names, *numbers, state]).rstrip())
    return "\n".join([*text, *(f"  FAILED {error}" for error in verification.errors)])
