"""Batches of the features that pipelines make of images, sounds and videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def forward_batches(pipe: Any, encoded: Sequence[Any], largest: int = 64, **parameters: Any) -> list[Any]:
    """`pipe.forward` of each preprocessed input, in batches of at most `largest` inputs with tensors of equal shapes.

    Unequal ones are not padded: models see the padding of images and sounds. An input of several parts is alone.
    """
    alike: dict[Any, list[int]] = {}
    outputs: list[Any] = [None] * len(encoded)
    for index, each in enumerate(encoded):
        if any(isinstance(value, torch.Tensor) and value.dim() and len(value) > 1 for value in each.values()):
            outputs[index] = pipe.forward(each, **parameters)
            continue
        shapes = tuple((name, tuple(value.shape)) for name, value in each.items() if isinstance(value, torch.Tensor))
        alike.setdefault(shapes, []).append(index)
    groups = [group[i : i + largest] for group in alike.values() for i in range(0, len(group), largest)]
    for group in groups:
        batch = {name: _join([encoded[index][name] for index in group]) for name in encoded[group[0]]}
        output = pipe.forward(batch, **parameters)
        for row, index in enumerate(group):
            one = {name: _pick(value, row, len(group)) for name, value in output.items()}
            outputs[index] = output.__class__({name: value for name, value in one.items() if value is not None})
    return outputs


def _join(values: list[Any]) -> Any:
    return torch.cat(values) if isinstance(values[0], torch.Tensor) else values


def _pick(value: Any, row: int, size: int) -> Any:
    """One row of a batched value: a tensor keeps its first dimension, a tuple holds tensors, a list one value a row."""
    if isinstance(value, torch.Tensor):
        return value[row : row + 1] if value.dim() and len(value) == size else value
    if isinstance(value, tuple):
        return tuple(_pick(each, row, size) for each in value)
    return value[row] if isinstance(value, list) and len(value) == size else None
