"""Batches of requests that differ in shape: what tells the model where each lies, and how its answer is taken apart.

The rules are those of Triton's backend library (`batch_input`, `batch_output`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from conch.config.schema import BatchInput, BatchInputKind, ModelOutput
from conch.tensor import Tensor
from conch.tensor.batch import split

#: The shape of a request's source input, with the batch dimension if the model batches.
_Shape = tuple[int, ...]


def batch_input(entry: BatchInput, sources: Sequence[Tensor], *, batching: bool) -> np.ndarray:
    """The input made of a batch.

    Args:
        sources: each request's source input.
        batching: whether the first dimension of a source is that of the batch.
    """
    shapes = [tensor.shape for tensor in sources]
    return np.array(_MAKERS[entry.kind](shapes, batching), entry.data_type.dtype)


def scatter(spec: ModelOutput, whole: Tensor, sources: Sequence[Tensor], *, batching: bool) -> list[Tensor]:
    """An output whose elements lie one request after the other, as one tensor a request.

    Raises:
        ValueError: it has more or fewer elements than its requests' shapes ask for.
    """
    dims = spec.dims if spec.reshape is None else spec.reshape
    pattern = (-1, *dims) if batching else dims
    shapes = [_filled(spec.name, pattern, tensor) for tensor in sources]
    counts = [math.prod(shape) for shape in shapes]
    if sum(counts) != whole.element_count:
        raise ValueError(
            f"output '{spec.name}' has {whole.element_count} elements, its requests ask for {sum(counts)} in shapes "
            f"{[list(shape) for shape in shapes]}"
        )
    flat = Tensor(whole.name, whole.datatype, (whole.element_count,), whole.data)
    return [
        Tensor(part.name, part.datatype, shape, part.data)
        for part, shape in zip(split(flat, counts), shapes, strict=True)
    ]


def _filled(name: str, pattern: _Shape, source: Tensor) -> _Shape:
    if len(pattern) > len(source.shape) and -1 in pattern[len(source.shape) :]:
        raise ValueError(f"output '{name}' of shape {list(pattern)} has more dimensions than '{source.name}'")
    return tuple(source.shape[place] if size == -1 else size for place, size in enumerate(pattern))


def _counts(shapes: Sequence[_Shape], batching: bool) -> list[int]:
    return [math.prod(shape) for shape in shapes]


def _accumulated(shapes: Sequence[_Shape], batching: bool) -> list[int]:
    return list(itertools.accumulate(_counts(shapes, batching)))


def _accumulated_with_zero(shapes: Sequence[_Shape], batching: bool) -> list[int]:
    return [0, *_accumulated(shapes, batching)]


def _max_as_shape(shapes: Sequence[_Shape], batching: bool) -> list[int]:
    return [0] * max(_counts(shapes, batching))


def _item_shapes(shapes: Sequence[_Shape], batching: bool) -> list[_Shape]:
    if not batching:
        return list(shapes)
    return [shape[1:] for shape in shapes for _ in range(shape[0])]


def _flat_item_shapes(shapes: Sequence[_Shape], batching: bool) -> list[int]:
    return [size for shape in _item_shapes(shapes, batching) for size in shape]


_MAKERS: Mapping[BatchInputKind, Callable[[Sequence[_Shape], bool], list[int] | list[_Shape]]] = {
    BatchInputKind.ELEMENT_COUNT: _counts,
    BatchInputKind.ACCUMULATED_ELEMENT_COUNT: _accumulated,
    BatchInputKind.ACCUMULATED_ELEMENT_COUNT_WITH_ZERO: _accumulated_with_zero,
    BatchInputKind.MAX_ELEMENT_COUNT_AS_SHAPE: _max_as_shape,
    BatchInputKind.ITEM_SHAPE: _item_shapes,
    BatchInputKind.ITEM_SHAPE_FLATTEN: _flat_item_shapes,
}
