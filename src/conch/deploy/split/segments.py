"""Reductions over the cells and columns of a table (TAPAS), in operations that an export can follow.

The library's own scatters with a mean and a minimum that leave out what they scatter into, which ONNX does not know.
What stands for it while a network is traced computes the same: sums, divided by counts.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

from conch.deploy.split.traced import swapped

_LIBRARY = "transformers.models.tapas.modeling_tapas"
#: What `_segment_reduce` takes for a reduction that is one of the values.
_EXTREMES = ("amin", "amax")


@contextlib.contextmanager
def followed_segments() -> Iterator[None]:
    """The library reduces segments by `reduced`, if it was ever asked for such a network."""
    library: Any = sys.modules.get(_LIBRARY)
    if library is None:
        yield
        return

    def reduce(values: torch.Tensor, index: Any, how: str, name: str) -> Any:
        places = library.range_index_map(index.batch_shape(), index.num_segments, device=index.indices.device)
        return reduced(values, index.indices, int(index.num_segments), how), places

    with swapped(library, "_segment_reduce", reduce):
        yield


def reduced(values: torch.Tensor, segments: torch.Tensor, count: int, how: str) -> torch.Tensor:
    """What becomes of the values of each segment, [batch, count]; 0 where a segment has none.

    Args:
        values: [batch, items].
        segments: INT64 [batch, items], the segment of each.
        how: "sum", "mean", "amin" or "amax".
    """
    numbers = values.float()
    empty = torch.zeros_like(numbers[:, :1]).expand(-1, count)
    if how in _EXTREMES:
        # All items of a segment bring its extreme along, so that it is the same whichever is written last.
        sign = 1.0 if how == "amax" else -1.0
        others = segments[:, :, None] != segments[:, None, :]
        largest = (sign * numbers)[:, None, :].masked_fill(others, torch.finfo(torch.float32).min).amax(-1)
        return empty.scatter(1, segments, sign * largest).to(values.dtype)
    sums = empty.scatter_add(1, segments, numbers)
    if how == "mean":
        sums = sums / empty.scatter_add(1, segments, torch.ones_like(numbers)).clamp(min=1.0)
    return sums.to(values.dtype)
