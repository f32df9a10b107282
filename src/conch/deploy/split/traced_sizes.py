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
from torch import nn


class TracedSizes(nn.Module):
    """The network as it is; while it is traced, lists of sizes become tensors that the trace follows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: torch.Tensor) -> Any:
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return self.network(*tensors)
        with _followed("tensor"), _followed("as_tensor"), _split_by_sizes():
            return self.network(*tensors)


@contextlib.contextmanager
def _followed(name: str) -> Iterator[None]:
    """`torch.<name>` of a list that holds tensors stacks them."""
    original: Callable[..., torch.Tensor] = getattr(torch, name)

    def make(data: Any, *others: Any, **options: Any) -> torch.Tensor:
        if others or not _holds_tensors(data):
            return original(data, *others, **options)
        return _stacked(data).to(**{key: value for key, value in options.items() if key in ("dtype", "device")})

    setattr(torch, name, make)
    try:
        yield
    finally:
        setattr(torch, name, original)


@contextlib.contextmanager
def _split_by_sizes() -> Iterator[None]:
    """`tensor.split(size)` along the first axis into equal parts, where the size is a tensor, follows it."""
    original: Any = torch.Tensor.split

    def split(whole: torch.Tensor, size: Any, dim: int = 0) -> Any:
        if not isinstance(size, torch.Tensor) or dim or int(whole.shape[0]) % int(size):
            return original(whole, size, dim)
        count = int(whole.shape[0]) // int(size)
        return whole.reshape(count, size, *whole.shape[1:]).unbind(0)  # type: ignore[call-overload]

    torch.Tensor.split = split  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.split = original  # type: ignore[method-assign]


def _holds_tensors(data: Any) -> bool:
    return isinstance(data, list | tuple) and any(
        isinstance(each, torch.Tensor) or _holds_tensors(each) for each in data
    )


def _stacked(data: Any) -> torch.Tensor:
    if isinstance(data, list | tuple):
        return torch.stack([_stacked(each) for each in data])
    return data if isinstance(data, torch.Tensor) else torch.as_tensor(data)
