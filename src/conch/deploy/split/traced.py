"""Networks that do otherwise while they are traced, what an export can follow, with the same answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn


class Traced(nn.Module):
    """The network as it is; while it is traced, inside these contexts, which change what the library does."""

    def __init__(self, network: nn.Module, *contexts: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()
        self.network = network
        self.contexts = contexts

    def forward(self, *tensors: torch.Tensor) -> Any:
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return self.network(*tensors)
        with contextlib.ExitStack() as stack:
            for context in self.contexts:
                stack.enter_context(context())
            return self.network(*tensors)


@contextlib.contextmanager
def swapped(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """Another attribute of a module or class, as long as the context lasts."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
