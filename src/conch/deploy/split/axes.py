"""Which axes of a network's tensors vary, told from samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

Arrays = Mapping[str, np.ndarray]

_DATATYPES = {each.dtype: each for each in DataType if each is not DataType.BF16}


def answers(module: Any, names: Sequence[str], samples: Sequence[Arrays]) -> list[tuple[np.ndarray, ...]]:
    """What a module answers to samples, its inputs in the order of `names`."""
    found = []
    with torch.inference_mode():
        for sample in samples:
            values = module(*(torch.from_numpy(np.ascontiguousarray(sample[name])) for name in names))
            found.append(tuple(value.cpu().numpy() for value in values))
    return found


def spec_of(name: str, arrays: Sequence[np.ndarray], doc: str) -> TensorSpec:
    """A tensor from its value in every sample, without the batch dimension: -1 where sizes differ."""
    sizes = zip(*(array.shape[1:] for array in arrays), strict=True)
    dims = tuple(axis[0] if len(set(axis)) == 1 else -1 for axis in sizes)
    return TensorSpec(name, _DATATYPES[arrays[0].dtype], dims, doc)


def axes_of(spec: TensorSpec, arrays: Sequence[np.ndarray], symbols: dict[tuple[int, ...], str]) -> dict[int, str]:
    """The symbols of a tensor's batch axis and of those of size -1.

    Args:
        symbols: the sizes in every sample -> symbol; extended by the sizes it does not know.
    """
    axes = {0: "batch"}
    for number, dim in enumerate(spec.dims, 1):
        if dim == -1:
            sizes = tuple(array.shape[number] for array in arrays)
            axes[number] = symbols.setdefault(sizes, _symbol(spec.name, number - len(spec.dims) - 1, symbols))
    return axes


def _symbol(name: str, axis: int, symbols: Mapping[tuple[int, ...], str]) -> str:
    """A name that none of `symbols` has; the last axes of pixels are their height and width."""
    if name in ("pixel_values", "pixel_mask") and axis in (-1, -2):
        wanted = "width" if axis == -1 else "height"
        if wanted not in symbols.values():
            return wanted
    return f"{name}_{-axis}"
