"""Whether a network answers the same when its inputs are padded: what sharing a batch rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from msgspec.structs import replace

from conch.deploy.split.network import Network
from conch.deploy.split.parts import CannotSplit, CorePart, PaddedAxis, Part, PythonPart, Split
from conch.deploy.split.stages import unpadded_setting

_MORE = 5
_TOLERANCE = 1e-3


def with_exact_padding(split: Split) -> Split:
    """The split, in which only networks that answer the same are given padded inputs.

    Where a network does not, only texts of equal length share a batch, and the rows of a request must have one length.

    Raises:
        CannotSplit: a request brings such a network several texts, which only padding makes one tensor.
    """
    for core in split.parts:
        if not isinstance(core, CorePart) or not (reason := inexact(core.network, core.padding)):
            continue
        if any(spec.dims.count(-1) > 1 for spec in core.inputs):
            raise CannotSplit(reason)
        padded = {core.input_map.get(name, name) for axis in core.padding for name in axis.inputs}
        others = (_not_padding(part, padded) for part in split.parts)
        parts = tuple(replace(part, padding=()) if part.suffix == core.suffix else part for part in others)
        split = replace(split, parts=parts)
    return split


def _not_padding(part: Part, names: set[str]) -> Part:
    """The part, telling requests whose rows are of unequal size from others, if it makes one of these tensors."""
    made = [spec for spec in part.outputs if part.output_map.get(spec.name, spec.name) in names]
    if not made or not isinstance(part, PythonPart):
        return part
    return replace(part, settings=(*part.settings, *unpadded_setting(made)))


def inexact(network: Network, padding: tuple[PaddedAxis, ...]) -> str:
    """How the answers to the shortest sample change when it is padded; "" if they do not.

    Some networks read the last position whatever the mask says (XLNet), others look at neighbours without asking it
    (MobileBERT, ConvBERT, Nystromformer).
    """
    if not padding:
        return ""
    sample = min(network.samples, key=lambda each: sum(array.size for array in each.values()))
    want = _answers(network, sample)
    for axis in padding:
        padded = {name: _padded(name, array, axis) for name, array in sample.items()}
        for name, got in _cut(_answers(network, padded), want, axis):
            scale = max(float(np.max(np.abs(want[name]), initial=0.0)), _TOLERANCE)
            difference = float(np.max(np.abs(got - want[name]), initial=0.0))
            if not difference <= _TOLERANCE * scale:
                return f"{name} changes by {difference:.2g} when its input is padded along '{axis.symbol}'"
    return ""


def _answers(network: Network, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    tensors = [torch.from_numpy(np.ascontiguousarray(sample[spec.name])) for spec in network.inputs]
    with torch.inference_mode():
        values = network.module(*tensors)
    return {
        spec.name: value.detach().cpu().numpy().astype(np.float64)
        for spec, value in zip(network.outputs, values, strict=True)
    }


def _padded(name: str, array: np.ndarray, axis: PaddedAxis) -> np.ndarray:
    if name not in axis.inputs:
        return array
    number, value = axis.inputs[name]
    widths = [(0, _MORE if each == number + 1 else 0) for each in range(array.ndim)]
    return np.pad(array, widths, constant_values=value).astype(array.dtype)


def _cut(
    got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray], axis: PaddedAxis
) -> Iterator[tuple[str, np.ndarray]]:
    """The outputs without what padding added to them."""
    for name, array in got.items():
        if name in axis.outputs:
            number = axis.outputs[name] + 1
            array = array.take(range(want[name].shape[number]), number)
        yield name, array
