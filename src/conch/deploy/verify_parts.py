"""Compare every cut of an ensemble: what each preprocess makes with what the library feeds its network, and what each
deployed core answers with what the torch module answers."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from conch.deploy.ensemble import model_name
from conch.deploy.export.prove import expected_outputs
from conch.deploy.plan import Plan
from conch.deploy.samples import Sample
from conch.deploy.split.apart import ROWS_APART, refuses
from conch.deploy.split.capture import preprocessed, recorded, tensors_of
from conch.deploy.split.parts import CorePart, Part, PythonPart, Split
from conch.deploy.verify import Cases, Row, Truth, Verification, compare_arrays, worst_rows
from conch.errors import ConchError

Arrays = Mapping[str, np.ndarray]

#: Calls a model: (its name, tensors, request parameters) -> output tensors.
InferModel = Callable[[str, dict[str, np.ndarray], dict[str, Any]], Awaitable[dict[str, np.ndarray]]]

#: Pixels and other floating inputs of a network may differ by that much, absolutely.
PREPROCESS_TOLERANCE = 1e-3
_MASK = "attention_mask"
#: Templates of parts whose models write token after token.
_GENERATING = frozenset({"generate.py", "generate_target.py"})


class PartCases(msgspec.Struct, frozen=True):
    """What the parts of an ensemble should answer.

    Attributes:
        fed: for each sample, tensor name -> the rows (without batch dimension) that reached the network.
        answered: suffix of a core part -> what its module answers to each of its network's samples.
        accepted: suffix -> output -> the largest difference that the proof of its export accepted.
    """

    fed: tuple[Mapping[str, Sequence[np.ndarray]], ...]
    answered: Mapping[str, Sequence[Arrays]]
    accepted: Mapping[str, Mapping[str, float]] = {}


def make_part_cases(split: Split, network: Any, truth: Truth, samples: Sequence[Sample]) -> PartCases:
    """Ask the library, and every core's module.

    Args:
        network: the torch module that the library's pipeline calls.
    """
    generates = any(isinstance(part, PythonPart) and part.template in _GENERATING for part in split.parts)
    fed = []
    for sample in samples:
        # The reference may go more than one way with one sample: only the distinct rows count.
        if generates:  # what reaches the network then are tokens one by one
            with preprocessed(truth.pipe) as made:
                truth.answer(sample)
            fed.append(_fed_rows([tensors_of(each) for each in made]))
        else:
            with recorded(network) as calls:
                truth.answer(sample)
            fed.append(_fed_rows([call.tensors for call in calls]))
    answered = {part.suffix: expected_outputs(part.network) for part in split.parts if isinstance(part, CorePart)}
    return PartCases(tuple(fed), answered)


async def verify_parts(plan: Plan, split: Split, cases: Cases, parts: PartCases, infer: InferModel) -> Verification:
    """One row a stage and tensor, the worst over all samples; and errors, each with its stage."""
    rows: list[Row] = []
    errors: dict[str, None] = {}
    for part in split.parts:
        call = _Caller(plan, part, infer)
        try:
            if isinstance(part, CorePart):
                proved = {name: max(cases.tolerance, of) for name, of in parts.accepted.get(part.suffix, {}).items()}
                expected = parts.answered[part.suffix]
                rows += [row async for row in _core_rows(part, expected, call, cases.tolerance, proved)]
            elif isinstance(part, PythonPart) and part.stage == "preprocess":
                rows += [row async for row in _preprocess_rows(part, cases.samples, parts.fed, call)]
        except (ConchError, ValueError, RuntimeError) as error:
            errors[f"{part.suffix}: {error}"] = None
    return Verification(tuple(worst_rows(rows)), tuple(errors))


def rows_of_requests(split: Split, samples: Sequence[Sample], cases: PartCases) -> list[list[int]]:
    """Numbers of samples that can be the rows of one request: those of equal shapes and parameters.

    Where a part refuses rows that it would have to pad, what it makes of them has equal shapes too.
    """
    refused = any(map(refuses, split.parts))
    groups: dict[str, list[int]] = {}
    for index, (sample, fed) in enumerate(zip(samples, cases.fed, strict=True)):
        shapes = {name: (array.shape, str(array.dtype)) for name, array in sorted(sample.inputs.items())}
        made = [(name, [row.shape for row in rows]) for name, rows in sorted(fed.items())] if refused else []
        groups.setdefault(repr((shapes, sorted(sample.parameters.items()), made)), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def rows_apart(element: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """The tensors of the parts of a sample but the first, as `light_rows.pack` writes them."""
    packed = bytes(element.reshape(-1)[0])
    if not packed:
        return
    rows: dict[str, dict[str, np.ndarray]] = {}
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("/")
            if name:
                rows.setdefault(number, {})[name] = arrays[key]
    yield from rows.values()


class _Caller:
    """Calls one part's model."""

    def __init__(self, plan: Plan, part: Part, infer: InferModel) -> None:
        self._name, self._part, self._infer = model_name(plan, part), part, infer

    async def __call__(self, inputs: Arrays, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The answer to batched inputs, named as in the ensemble; what the part does not read is left out."""
        own = {spec.name: self._part.input_map.get(spec.name, spec.name) for spec in self._part.inputs}
        sent = {name: inputs[tensor] for name, tensor in own.items() if tensor in inputs}
        return await self._infer(self._name, sent, dict(parameters))


async def _core_rows(
    part: CorePart, expected: Sequence[Arrays], call: _Caller, tolerance: float, proved: Mapping[str, float]
) -> Any:
    network = part.network
    for sample, want in zip(network.samples, expected, strict=True):
        sent = {part.input_map.get(spec.name, spec.name): sample[spec.name] for spec in part.inputs}
        got = await call(sent, {})
        for name, array in want.items():
            shown = got.get(name)
            if shown is None:
                yield Row(name, float("inf"), 0.0, "the model did not return it", part.suffix)
                continue
            mask = _real_positions(part, name, sample, array)
            if mask is not None and shown.shape == array.shape:
                array, shown = array[mask], shown[mask]
            yield Row(name, *compare_arrays(array, shown, proved.get(name, tolerance)), part.suffix)


def _real_positions(part: CorePart, output: str, sample: Arrays, array: np.ndarray) -> np.ndarray | None:
    """Where an output counts: at tokens that the mask calls real; None for everywhere."""
    network = part.network
    symbols = network.axes.get(output, {})
    if not network.mask or symbols.get(1) != "sequence" or array.shape[:2] != sample[network.mask].shape:
        return None
    real: np.ndarray = sample[network.mask] > 0
    return real


async def _preprocess_rows(
    part: PythonPart, samples: Sequence[Sample], fed: Sequence[Mapping[str, Sequence[np.ndarray]]], call: _Caller
) -> Any:
    for sample, wanted in zip(samples, fed, strict=True):
        inputs = {name: array[None] for name, array in sample.inputs.items()}
        got = {name: array[0] for name, array in (await call(inputs, sample.parameters)).items()}
        made = _made_rows(got, wanted)
        for name, rows in made.items():
            yield Row(name, *_compare_rows(wanted[name], rows), part.suffix)


def _fed_rows(calls: Sequence[Mapping[str, Any]]) -> dict[str, list[np.ndarray]]:
    """The rows that reached the network, tokens without their padding, each once."""
    found: dict[str, list[np.ndarray]] = {}
    for call in calls:
        arrays = {name: _as_numpy(tensor) for name, tensor in call.items()}
        for name, array in arrays.items():
            known = found.setdefault(name, [])
            for row in _trimmed(name, array, arrays.get(_MASK)):
                if not any(np.array_equal(row, each) for each in known):
                    known.append(row)
    return found


def _made_rows(got: Arrays, wanted: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """The same of what a preprocess made for one sample, for the tensors that reached the network."""
    made: dict[str, list[np.ndarray]] = {}
    further = list(rows_apart(got[ROWS_APART.name])) if ROWS_APART.name in got else []
    for name, array in got.items():
        if not wanted.get(name):
            continue
        many = array.ndim == wanted[name][0].ndim + 1
        rows: list[np.ndarray] = []
        # The library's pipeline need not give its network the mask: rows of the part's own size then hold padding.
        whole = _MASK not in wanted and {row.shape for row in wanted[name]} == {array.shape[int(many) :]}
        mask = None if whole else got.get(_MASK)
        if not many:
            array, mask = array[None], None if mask is None else mask[None]
        found = [*_trimmed(name, array, mask)]
        for each in (each for each in further if name in each):
            found += _trimmed(name, each[name][None], each[_MASK][None] if mask is not None and _MASK in each else None)
        for row in found:
            if not any(np.array_equal(row, each) for each in rows):
                rows.append(row)
        made[name] = rows
    return made


def _trimmed(name: str, array: np.ndarray, mask: np.ndarray | None) -> Iterator[np.ndarray]:
    """The rows of a batch; of token tensors, those positions that the mask calls real."""
    tokens = mask is not None and array.shape == mask.shape
    for index, row in enumerate(array):
        yield row[mask[index] > 0] if tokens and mask is not None else row


def _compare_rows(want: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> tuple[float, float, str]:
    """Largest difference, tolerance and a note; libraries may bring the rows into another order."""
    if len(want) != len(got):
        return float("inf"), 0.0, f"expected {len(want)} different rows, got {len(got)}"
    largest = 0.0
    exact = not np.issubdtype(got[0].dtype, np.floating) if got else True
    tolerance = 0.0 if exact else PREPROCESS_TOLERANCE
    for a, b in zip(sorted(want, key=_order), sorted(got, key=_order), strict=True):
        if a.shape != b.shape:
            return float("inf"), tolerance, f"expected shape {list(a.shape)}, got {list(b.shape)}"
        if a.size:
            largest = max(largest, float(np.max(np.abs(a.astype(np.float64) - b))))
    return largest, tolerance, ""


def _order(row: np.ndarray) -> tuple[tuple[int, ...], list[float]]:
    return row.shape, np.round(row.reshape(-1)[:64].astype(np.float64), 1).tolist()


def _as_numpy(tensor: Any) -> np.ndarray:
    value = tensor.detach().cpu()
    array: np.ndarray = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return array
