"""Sizes that a network makes tensors of, kept variable while it is traced.

Deformable attention writes the sizes of its feature maps into a tensor, with `torch.as_tensor` or `torch.tensor` of a
list: a trace would hold the sizes of the image it was made with. ZoeDepth splits what it stacked by the size of the
batch: a trace would hold that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from conch.deploy.split.traced import swapped


@contextlib.contextmanager
def followed_sizes() -> Iterator[None]:
    """Lists of sizes become tensors that the trace follows, and equal parts of a size that is a tensor follow it."""
    with (
        swapped(torch, "tensor", _stacking(torch.tensor)),
        swapped(torch, "as_tensor", _stacking(torch.as_tensor)),
        swapped(torch.Tensor, "split", _split_by_sizes(torch.Tensor.split)),
    ):
        yield


def _stacking(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Of a list that holds tensors it stacks them."""

    def make(data: Any, *others: Any, **options: Any) -> torch.Tensor:
        if others or not _holds_tensors(data):
            return original(data, *others, **options)
        return _stacked(data).to(**{key: value for key, value in options.items() if key in ("dtype", "device")})

    return make


def _split_by_sizes(original: Any) -> Any:
    """`tensor.split(size)` along the first axis into equal parts, where the size is a tensor, follows it."""

    def split(whole: torch.Tensor, size: Any, dim: int = 0) -> Any:
        if not isinstance(size, torch.Tensor) or dim or int(whole.shape[0]) % int(size):
            return original(whole, size, dim)
        count = int(whole.shape[0]) // int(size)
        return whole.reshape(count, size, *whole.shape[1:]).unbind(0)  # type: ignore[call-overload]

    return split


def _holds_tensors(data: Any) -> bool:
    return isinstance(data, list | tuple) and any(
        isinstance(each, torch.Tensor) or _holds_tensors(each) for each in data
    )


def _stacked(data: Any) -> torch.Tensor:
    if isinstance(data, list | tuple):
        return torch.stack([_stacked(each) for each in data])
    return data if isinstance(data, torch.Tensor) else torch.as_tensor(data)
