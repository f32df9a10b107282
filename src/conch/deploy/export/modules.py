"""Torch modules around a network's own, as exporters want them. Imports torch."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import msgspec
import torch
from torch import nn

from conch.deploy.split.network import Network


class _Plain(nn.Module):
    """The network's module with a tuple of contiguous tensors as its answer."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = self.module(*tensors)
        return tuple(values) if isinstance(values, tuple | list) else (values,)


class _Cast(nn.Module):
    """A module of another number format whose inputs and outputs keep theirs."""

    def __init__(self, module: nn.Module, dtype: torch.dtype, outputs: tuple[torch.dtype, ...]) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype
        self.outputs = outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cast = [tensor.to(self.dtype) if tensor.is_floating_point() else tensor for tensor in tensors]
        values = self.module(*cast)
        values = values if isinstance(values, tuple | list) else (values,)
        return tuple(value.to(dtype) for value, dtype in zip(values, self.outputs, strict=True))


def exportable(network: Network) -> nn.Module:
    """A module in evaluation mode whose `forward` has the inputs' names as its arguments, and returns a tuple."""

    def forward(self: _Plain, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _Plain.forward(self, *tensors)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    arguments = [inspect.Parameter(name, kind) for name in ("self", *(spec.name for spec in network.inputs))]
    forward.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]
    named: type[_Plain] = type("ExportedNetwork", (_Plain,), {"forward": forward})
    return named(network.module).eval()


def cast(network: Network, dtype: str) -> Network:
    """A copy of a network whose weights have another number format; its tensors stay as they are.

    The network given is not changed.
    """
    torch_dtype: torch.dtype = getattr(torch, dtype)
    outputs = tuple(getattr(torch, _TORCH_NAMES[spec.datatype.value]) for spec in network.outputs)
    module = copy.deepcopy(network.module).to(torch_dtype)
    return msgspec.structs.replace(network, module=_Cast(module, torch_dtype, outputs).eval(), dtype=dtype)


def example(network: Network) -> tuple[torch.Tensor, ...]:
    """The sample that is exported with, in the order of the inputs."""
    sample: Any = network.samples[0]
    return tuple(torch.from_numpy(sample[spec.name].copy()) for spec in network.inputs)


_TORCH_NAMES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": "bfloat16",
}
