"""Names of number formats: what users write, and what torch calls it."""

from __future__ import annotations

from conch.errors import InvalidArgumentError

_TORCH_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def torch_name(dtype: str) -> str:
    """Torch's name of a number format that networks are exported in.

    Raises:
        InvalidArgumentError: there is no such.
    """
    name = _TORCH_NAMES.get(dtype, dtype)
    if name not in _TORCH_NAMES.values():
        raise InvalidArgumentError(f"unknown number format '{dtype}'; expected one of {', '.join(_TORCH_NAMES)}")
    return name
