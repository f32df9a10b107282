"""From texts on the command line to an input tensor: by datatype, and fitted to the model's shape."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from conch.tensor.datatype import DATATYPE_BY_NAME

#: Words in the name of a BYTES input that take a path for the file's bytes.
_MEDIA = ("image", "audio", "video")


class InputError(Exception):
    """A value does not fit the model; the text says what is expected."""


class InputSpec(msgspec.Struct, frozen=True):
    """An input of a model; `shape` excludes the batch dimension, -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


class NamedArray(msgspec.Struct, frozen=True):
    """An input to send, batch dimension included where the model batches."""

    name: str
    datatype: str
    array: np.ndarray


def make_input(spec: InputSpec, texts: Sequence[str], batches: bool) -> NamedArray:
    """The tensor that the texts given for an input make.

    Raises:
        InputError: a text cannot be read as the datatype, a file cannot be read, or the elements do not fit the shape.
    """
    if spec.datatype == "BF16":
        raise InputError(f"input '{spec.name}' is BF16, which the command line cannot write")
    read = _bytes_value if spec.datatype == "BYTES" else _number_value
    values = [read(spec, text) for text in texts]
    try:
        array = values[0] if len(values) == 1 else np.stack(values)
    except ValueError:
        shapes = ", ".join(str(list(value.shape)) for value in values)
        raise InputError(f"the values of input '{spec.name}' have different shapes: {shapes}") from None
    return NamedArray(spec.name, spec.datatype, _fit(spec, array, batches))


def _bytes_value(spec: InputSpec, text: str) -> np.ndarray:
    if text.startswith("@"):
        return _objects(_read_file(spec, text[1:]))
    if any(word in spec.name.lower() for word in _MEDIA):
        if not Path(text).is_file():
            raise InputError(f"input '{spec.name}' expects a file, and '{text}' is none")
        return _objects(_read_file(spec, text))
    listed = _json(text) if text.startswith("[") else None
    if isinstance(listed, list):
        try:
            array = np.array(listed, dtype=object)
        except ValueError as error:
            raise InputError(f"input '{spec.name}': {error}") from None
        encoded = np.empty(array.shape, dtype=object)
        encoded.reshape(-1)[:] = [str(element).encode() for element in array.reshape(-1).tolist()]
        return encoded
    return _objects(text.encode())


def _objects(element: bytes) -> np.ndarray:
    array = np.empty((), dtype=object)
    array[()] = element
    return array


def _read_file(spec: InputSpec, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"input '{spec.name}': cannot read '{path}': {error.strerror}") from error


def _number_value(spec: InputSpec, text: str) -> np.ndarray:
    dtype = DATATYPE_BY_NAME[spec.datatype].dtype
    path = text.removeprefix("@")
    if path.endswith(".npy"):
        try:
            loaded: np.ndarray = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"input '{spec.name}': cannot read '{path}': {error}") from error
        return _convert(spec, loaded, dtype, path)
    value = _json(text)
    if value is None and "," in text:
        value = _json(f"[{text}]")
    if value is None and dtype.kind == "f" and text.lower() in ("nan", "inf", "-inf"):
        value = float(text)
    if value is None or isinstance(value, str | dict):
        raise InputError(
            f"input '{spec.name}' is {spec.datatype} {list(spec.shape)}: expected a number, a JSON array or a .npy "
            f"file, got '{text}'"
        )
    try:
        return _convert(spec, np.array(value), dtype, text)
    except ValueError as error:
        raise InputError(f"input '{spec.name}': {error}") from None


def _convert(spec: InputSpec, array: np.ndarray, dtype: np.dtype, text: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise InputError(f"input '{spec.name}' is {spec.datatype}, and '{text}' holds {array.dtype}")
    if dtype.kind in "iu" and array.size:
        if array.dtype.kind == "f" and not np.array_equal(array, np.trunc(array)):
            raise InputError(f"input '{spec.name}' is {spec.datatype}, and '{text}' is not integral")
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise InputError(
                f"input '{spec.name}' is {spec.datatype} ({limits.min} to {limits.max}), and '{text}' is out of range"
            )
    return array.astype(dtype)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _fit(spec: InputSpec, array: np.ndarray, batches: bool) -> np.ndarray:
    dims = spec.shape
    if _matches(array.shape, dims):
        return array[np.newaxis] if batches else array
    if batches and array.ndim > 0 and _matches(array.shape[1:], dims):
        return array
    fixed = math.prod(dim for dim in dims if dim != -1)
    if -1 in dims and fixed and array.size % fixed == 0 and array.ndim <= 1:
        # All that is left over goes into the last dimension of any size.
        last = len(dims) - 1 - dims[::-1].index(-1)
        rest = array.size // fixed
        shape = tuple((rest if at == last else 1) if dim == -1 else dim for at, dim in enumerate(dims))
        return array.reshape((1, *shape) if batches else shape)
    if -1 not in dims and array.ndim <= 1:
        if array.size == fixed:
            return array.reshape((1, *dims) if batches else dims)
        if batches and fixed and array.size % fixed == 0:
            return array.reshape((array.size // fixed, *dims))
    expected = list(dims)
    raise InputError(f"input '{spec.name}' expects shape {expected}, got {list(array.shape)}")


def _matches(shape: tuple[int, ...], dims: tuple[int, ...]) -> bool:
    return len(shape) == len(dims) and all(want in (-1, got) for got, want in zip(shape, dims, strict=True))
