"""Prove an export: run the file with its engine on every sample and compare each output with the torch module."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from conch.deploy.export.quiet import quiet
from conch.deploy.extras import require
from conch.deploy.split.network import Network

logger = logging.getLogger(__name__)

#: Largest difference accepted, relative to the largest value of the output.
TOLERANCE = {"float32": 1e-4, "float64": 1e-4, "float16": 2e-2, "bfloat16": 5e-2, "int8": float("inf")}
#: Share of integers that may differ at any rate.
INTEGER_TOLERANCE = 1e-3
#: int8 is a trade that the user asked for: its difference is reported, and only a model that lost its way is refused.
SMALLEST_COSINE = 0.9

#: A network whose own answers lie further from the truth than its tolerance is accepted at twice that, up to so many
#: times the tolerance.
_OWN_ERRORS, _MOST_TOLERANCES = 2.0, 10.0

Arrays = dict[str, np.ndarray]


class Runner(Protocol):
    """An exported file, loaded by its engine.

    Attributes:
        inputs: names of the inputs the file has.
        device: where it runs: "cpu" or "cuda".
    """

    inputs: tuple[str, ...]
    device: str

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Outputs by name, for exactly the inputs the file has."""
        ...


class Difference(msgspec.Struct, frozen=True):
    """What was found of one output on one sample.

    Attributes:
        backend: the engine that ran.
        output: the output's name.
        sizes: of the sample, as "batch=3 sequence=7".
        difference: the largest, relative to the largest value; of integers, the share that differs.
        accepted: the largest difference that passes; infinite if only the cosine counts.
        cosine: between the two outputs, flattened; 1.0 for integers.
        note: "" or why they could not be compared.
    """

    backend: str
    output: str
    sizes: str
    difference: float
    accepted: float
    cosine: float = 1.0
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.difference <= self.accepted and self.cosine >= (SMALLEST_COSINE if np.isinf(self.accepted) else -2)

    def __str__(self) -> str:
        if self.note:
            return f"output '{self.output}' {self.note} at {self.sizes}"
        if np.isinf(self.accepted):
            return f"output '{self.output}' has cosine {self.cosine:.3f} at {self.sizes} (accepted {SMALLEST_COSINE})"
        return f"output '{self.output}' differs by {self.difference:.2g} at {self.sizes} (accepted {self.accepted:.0e})"


def expected_outputs(network: Network) -> list[Arrays]:
    """What the torch module answers to each sample.

    Raises:
        ValueError: it does not return the tensors the network promises.
    """
    torch = require("torch")
    names = [spec.name for spec in network.outputs]
    answers = []
    network.module.eval()
    with torch.inference_mode(), quiet():
        for sample in network.samples:
            values = network.module(*(torch.from_numpy(np.ascontiguousarray(sample[i.name])) for i in network.inputs))
            values = values if isinstance(values, tuple | list) else (values,)
            if len(values) != len(names):
                raise ValueError(f"the network promises the outputs {names}, but its module returns {len(values)}")
            answers.append({name: _to_numpy(value) for name, value in zip(names, values, strict=True)})
    return answers


def unproved_symbols(network: Network) -> list[str]:
    """Symbols that have the same size in every sample: an export that bakes that size in would go unnoticed."""
    sizes: dict[str, set[int]] = {}
    for sample in network.samples:
        for name, array in sample.items():
            for axis, symbol in network.axes.get(name, {}).items():
                sizes.setdefault(symbol, set()).add(array.shape[axis])
    return sorted(symbol for symbol, seen in sizes.items() if len(seen) < 2)


def prove(network: Network, expected: Sequence[Arrays], runner: Runner, backend: str, dtype: str) -> list[Difference]:
    """One row an output and sample; errors of the engine become rows that do not pass.

    Args:
        expected: what `expected_outputs` returned.
        dtype: number format of the weights in the file, as torch names it, or "int8".
    """
    rows = []
    accepted = _accepted(network.dtype, dtype)
    for sample, want in zip(network.samples, expected, strict=True):
        sizes = _sizes(network, sample)
        try:
            with quiet():
                got = runner.run({name: sample[name] for name in runner.inputs})
        except Exception as error:
            note = f"could not be computed ({one_line(error)})"
            rows += [Difference(backend, name, sizes, float("inf"), 0.0, 0.0, note) for name in want]
            continue
        for spec in network.outputs:
            mask = _mask(network, sample, spec.name, want[spec.name])
            found = _compare(want[spec.name], got.get(spec.name), mask, accepted)
            if accepted < found.difference <= _MOST_TOLERANCES * accepted and not found.note:
                own = _OWN_ERRORS * own_errors(network, sample, want).get(spec.name, 0.0)
                found = msgspec.structs.replace(found, accepted=min(max(accepted, own), _MOST_TOLERANCES * accepted))
            if not found.note and got[spec.name].dtype != spec.datatype.dtype:
                note = f"should be {spec.datatype.value}, got {got[spec.name].dtype}"
                found = msgspec.structs.replace(found, difference=float("inf"), note=note)
            rows.append(msgspec.structs.replace(found, backend=backend, output=spec.name, sizes=sizes))
    return rows


def own_errors(network: Network, sample: Mapping[str, np.ndarray], want: Arrays) -> dict[str, float]:
    """How far the module's FP32 answers to a sample are from its FP64 ones, by output, as rows of a proof say it.

    Rounding alone can take a deep network further from the truth than a tolerance allows; no engine that rounds
    otherwise can come closer to it. Nothing is told of networks in other formats, or that do not run in FP64.
    """
    torch = require("torch")
    module = network.module
    numbers = [*module.parameters(), *module.buffers()]
    if any(each.is_floating_point() and each.dtype != torch.float32 for each in numbers):
        return {}
    arrays = [np.ascontiguousarray(sample[spec.name]) for spec in network.inputs]
    wide = [each.astype(np.float64) if np.issubdtype(each.dtype, np.floating) else each for each in arrays]
    try:
        module.double()
        with torch.inference_mode(), quiet():
            values = module(*map(torch.from_numpy, wide))
    except (RuntimeError, TypeError, ValueError) as error:  # a step of it that knows FP32 alone
        logger.debug("the network does not run in FP64: %s", one_line(error))
        return {}
    finally:
        module.float()
    values = values if isinstance(values, tuple | list) else (values,)
    found = {}
    for spec, value in zip(network.outputs, values, strict=True):
        truth, mask = _to_numpy(value), _mask(network, sample, spec.name, want[spec.name])
        found[spec.name] = _compare(truth, want[spec.name].astype(truth.dtype), mask, 0.0).difference
    return {name: error for name, error in found.items() if np.isfinite(error)}


def accepted_differences(rows: Sequence[Difference]) -> dict[str, float]:
    """What a proof accepted of each output, on any sample; nothing of outputs that are not held to a difference."""
    found: dict[str, float] = {}
    for row in rows:
        if np.isfinite(row.accepted):
            found[row.output] = max(row.accepted, found.get(row.output, 0.0))
    return found


def worst(rows: Sequence[Difference]) -> Difference:
    """The row that is furthest from what is accepted."""
    return max(rows, key=lambda row: (not row.passed, row.difference, -row.cosine))


def one_line(error: BaseException) -> str:
    """An exception of a library as one line of at most 200 characters: the first cause counts."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:197] + '...' if len(text) > 200 else text}"


def _accepted(*dtypes: str) -> float:
    """The looser tolerance: a module in half precision is no better known than to that."""
    return max(TOLERANCE.get(dtype, TOLERANCE["float32"]) for dtype in dtypes)


def _compare(want: np.ndarray, got: np.ndarray | None, mask: np.ndarray | None, accepted: float) -> Difference:
    row = Difference("", "", "", 0.0, accepted)
    if got is None:
        return msgspec.structs.replace(row, difference=float("inf"), accepted=0.0, note="is missing")
    if want.shape != got.shape:
        note = f"has the shape {list(got.shape)} instead of {list(want.shape)}"
        return msgspec.structs.replace(row, difference=float("inf"), accepted=0.0, note=note)
    if mask is not None:
        want, got = want[mask], got[mask]
    if not want.size:
        return row
    if not np.issubdtype(want.dtype, np.floating):
        allowed = max(accepted, INTEGER_TOLERANCE)
        return msgspec.structs.replace(row, difference=float(np.mean(want != got)), accepted=allowed)
    return msgspec.structs.replace(row, difference=_relative_difference(want, got), cosine=_cosine(want, got))


def _relative_difference(want: np.ndarray, got: np.ndarray) -> float:
    """The largest difference over the largest value; infinities and NaN must be where they are in the original."""
    a, b = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    difference = np.max(np.abs(a[finite] - b[finite]))
    scale = np.max(np.abs(a[finite]))
    # Random weights make outputs of 1e-30: only a true zero has no scale of its own.
    ratio = float(difference / scale) if scale else float(difference)
    return ratio if np.isfinite(ratio) else float("inf")


def _cosine(want: np.ndarray, got: np.ndarray) -> float:
    a, b = (np.nan_to_num(array.astype(np.float64).reshape(-1), posinf=0.0, neginf=0.0) for array in (want, got))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not lengths:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(a @ b) / lengths


def _mask(network: Network, sample: Mapping[str, np.ndarray], output: str, like: np.ndarray) -> np.ndarray | None:
    """Which elements of an output count: those at positions of "sequence" that the mask calls real.

    None where all do.
    """
    symbols = network.axes.get(output, {})
    if not network.mask or "sequence" not in symbols.values():
        return None
    of_mask = network.axes.get(network.mask, {})
    axis_of = {symbol: axis for axis, symbol in symbols.items()}
    if not set(of_mask.values()) <= axis_of.keys() or len(of_mask) != sample[network.mask].ndim:
        return None
    real = sample[network.mask].astype(bool)
    places = [axis_of[of_mask[axis]] for axis in range(real.ndim)]
    shape = [1] * like.ndim
    for axis, place in enumerate(places):
        shape[place] = real.shape[axis]
        if like.shape[place] != real.shape[axis]:
            return None
    aligned = real.transpose(np.argsort(places)).reshape(shape)
    return np.broadcast_to(aligned, like.shape)


def _sizes(network: Network, sample: Mapping[str, np.ndarray]) -> str:
    sizes: dict[str, int] = {}
    for name, array in sample.items():
        for axis, symbol in network.axes.get(name, {}).items():
            sizes[symbol] = array.shape[axis]
    return " ".join(f"{symbol}={size}" for symbol, size in sizes.items()) or "fixed sizes"


def _to_numpy(value: Any) -> np.ndarray:
    """A tensor as an array; bfloat16, which numpy lacks, as FP32."""
    value = value.detach().cpu()
    array: np.ndarray = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return array
