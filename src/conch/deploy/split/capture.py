"""What a pipeline feeds its network, and what comes back, recorded while it answers samples."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec


class Call(msgspec.Struct, frozen=True):
    """One call of a network.

    Attributes:
        arguments: by the names of `forward`, those left out missing.
        output: what it returned.
    """

    arguments: Mapping[str, Any]
    output: Any

    @property
    def tensors(self) -> dict[str, Any]:
        """The arguments that are tensors."""
        return tensors_of(self.arguments)


def tensors_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that are torch tensors."""
    return {name: value for name, value in values.items() if hasattr(value, "detach")}


@contextlib.contextmanager
def recorded(module: Any) -> Iterator[list[Call]]:
    """The calls of a torch module while the context lasts, in order; also those that go to its `forward` directly."""
    calls: list[Call] = []
    forward = module.forward
    signature = inspect.signature(forward)

    def record(*arguments: Any, **keywords: Any) -> Any:
        named = dict(signature.bind(*arguments, **keywords).arguments)
        named |= named.pop("kwargs", {})
        output = forward(*arguments, **keywords)
        calls.append(Call(named, output))
        return output

    module.forward = record
    try:
        yield calls
    finally:
        del module.forward


@contextlib.contextmanager
def preprocessed(pipe: Any) -> Iterator[list[Any]]:
    """What a pipeline's preprocess makes while the context lasts, the parts of what it cuts one after the other."""
    made: list[Any] = []
    preprocess = pipe.preprocess

    def record(*arguments: Any, **keywords: Any) -> Any:
        result = preprocess(*arguments, **keywords)
        if not isinstance(result, Iterator):
            made.append(_copied(result))
            return result
        parts = list(result)
        made.extend(map(_copied, parts))
        return iter(parts)

    pipe.preprocess = record
    try:
        yield made
    finally:
        del pipe.preprocess


def _copied(value: Any) -> Any:
    """A mapping of its own: a pipeline takes entries out of what its preprocess made."""
    return dict(value) if isinstance(value, Mapping) else value
