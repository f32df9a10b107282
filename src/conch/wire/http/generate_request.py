"""The body of a generate request: one flat JSON object whose keys are inputs and parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from conch.config.schema import ModelConfig, ModelInput
from conch.errors import ConchError, InternalError, InvalidArgumentError
from conch.inference import InferRequest, Parameter, request_prefix
from conch.tensor import Tensor
from conch.wire.codec.parameters import scalar_parameter
from conch.wire.http.json_tensor import tensor_data_from_json
from conch.wire.http.json_text import decode_json

#: The key whose value is an object of further keys.
_NESTED = "parameters"


def decode_generate(config: ModelConfig, version: str, body: bytes) -> InferRequest:
    """The request that a body asks for: keys that name an input become that input, all others custom parameters.

    As in Triton no parameter has a meaning of its own, not even `timeout` or `sequence_id`.

    Args:
        version: the version in the path, "" for none.

    Raises:
        InternalError: not a JSON object, or a value of the wrong type.
        InvalidArgumentError: a value that fits neither its input's shape nor a parameter, or an input given twice.
    """
    document = decode_json(body)
    if not isinstance(document, dict):
        raise InternalError("attempt to get members for non-object")
    request_id = document.get("id", "")
    if not isinstance(request_id, str):
        raise InternalError("Unable to parse 'id': attempt to access JSON non-string as string")
    mapping = _Mapping(config, request_id)
    for name, value in document.items():
        if name == _NESTED:
            mapping.take_nested(value)
        else:
            mapping.take(name, value)
    for tensor in mapping.inputs.values():
        if body.count(b'"%b"' % tensor.name.encode()) > 1 and _is_repeated(body, tensor.name):
            raise mapping.repeated(tensor.name)
    return InferRequest(config.name, version, tuple(mapping.inputs.values()), request_id, parameters=mapping.parameters)


class _Mapping:
    """What the keys seen so far amount to."""

    def __init__(self, config: ModelConfig, request_id: str) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.parameters: dict[str, Parameter] = {}
        self._specs = {spec.name: spec for spec in config.input}
        self._batched = config.max_batch_size > 0
        self._request_id = request_id

    def take(self, name: str, value: Any) -> None:
        spec = self._specs.get(name)
        if spec is None:
            self.parameters[name] = scalar_parameter(name, value)
        elif name in self.inputs:
            raise self.repeated(name)
        else:
            self.inputs[name] = _tensor(spec, self._batched, value)

    def take_nested(self, value: Any) -> None:
        if _NESTED in self._specs:
            raise InvalidArgumentError(f"Keyword: '{_NESTED}' for nested schema also given as input tensor name")
        if not isinstance(value, dict):
            raise InternalError(
                f"Expected JSON object for keyword: '{_NESTED}': attempt to access JSON non-object as object"
            )
        try:
            for name, inner in value.items():
                self.take(name, inner)
        except ConchError as error:
            raise type(error)(f"Converting keyword: '{_NESTED}': {error.message}") from error

    def repeated(self, name: str) -> InvalidArgumentError:
        return InvalidArgumentError(f"{request_prefix(self._request_id)}input '{name}' already exists in request")


def _is_repeated(body: bytes, name: str) -> bool:
    """Whether that key occurs twice at the top of a document that was read without error (which keeps the last)."""
    names: Sequence[str] = ()

    def remember(pairs: list[tuple[str, Any]]) -> None:
        nonlocal names
        names = [key for key, _ in pairs]  # the outermost object is the last one to end

    json.loads(body.decode("utf-8", "surrogateescape").partition("\0")[0], object_pairs_hook=remember)
    return names.count(name) > 1


def _tensor(spec: ModelInput, batched: bool, value: Any) -> Tensor:
    elements = value if isinstance(value, list) else [value]
    shape = _shape(spec.name, (-1, *spec.dims) if batched else spec.dims, len(elements))
    count = math.prod(shape)
    data = tensor_data_from_json(spec.name, spec.data_type, count, elements) if count else b""
    return Tensor(spec.name, spec.data_type, shape, data)


def _shape(name: str, dims: Sequence[int], count: int) -> tuple[int, ...]:
    """The shape of `count` values: the last variable dimension takes what the fixed ones leave, others are 1.

    Only the outermost array is counted; what lies deeper has to fit. So does Triton.
    """
    for size in dims:
        if size != -1:
            if size == 0 or count % size:
                raise _misfit(name)
            count //= size
    shape: list[int] = []
    for size in reversed(dims):
        if size == -1:
            size, count = count, 1
        shape.append(size)
    if count != 1:
        raise _misfit(name)
    return tuple(reversed(shape))


def _misfit(name: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"The schema can not convert input '{name}' to tensor with proper shape")
