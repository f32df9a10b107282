"""The body of an inference request: JSON head, binary tensors behind it, or one raw tensor alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from conch.core.api import ModelView
from conch.errors import InternalError, InvalidArgumentError, NotFoundError
from conch.inference import InferRequest, Parameter, RequestedOutput
from conch.tensor import Tensor
from conch.tensor.datatype import DATATYPE_BY_NAME
from conch.wire.codec.parameters import NO_FIELDS, split_parameters
from conch.wire.codec.tensor_bytes import check_tensor_bytes, request_prefix
from conch.wire.http.json_tensor import tensor_data_from_json
from conch.wire.http.json_text import decode_json
from conch.wire.http.raw_input import raw_tensor

_UINT64_MAX = 2**64 - 1
_NOT_UNSIGNED = "attempt to access JSON non-unsigned-integer as unsigned-integer"
_NO_OBJECT: Mapping[str, Any] = {}


class OutputForms(msgspec.Struct, frozen=True, gc=False):
    """How outputs are to be written.

    Attributes:
        binary_default: form of outputs the client did not list.
        binary: output name -> binary or JSON, for those it listed.
    """

    binary_default: bool = False
    binary: Mapping[str, bool] = {}


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """A decoded request and how its outputs are to be written."""

    request: InferRequest
    forms: OutputForms


_JSON_FORMS = OutputForms()
_BINARY_FORMS = OutputForms(binary_default=True)


def decode_infer(
    view: ModelView, version: str, body: bytes, header: bytes | None, forwarded: Mapping[str, Parameter]
) -> Decoded:
    """Decode an inference request.

    Args:
        view: the model asked for.
        version: the version in the path, "" for none.
        body: the decompressed body; tensors are views into it.
        header: value of Inference-Header-Content-Length, None when absent: the body is JSON alone. 0 makes the body
            the data of the model's only input.
        forwarded: request headers that become parameters.

    Raises:
        InternalError: not JSON, or a JSON value of the wrong type.
        InvalidArgumentError, NotFoundError: what else is wrong with it.
    """
    json_bytes = len(body) if header is None else _header_length(header, len(body))
    model_name = view.config.name
    if json_bytes == 0:
        tensor = raw_tensor(view.config, body)
        return Decoded(InferRequest(model_name, version, (tensor,), parameters=forwarded), _BINARY_FORMS)
    document = decode_json(body if json_bytes == len(body) else memoryview(body)[:json_bytes])
    if not isinstance(document, dict):
        raise InternalError("Unable to parse 'inputs': attempt to access non-existing object member 'inputs'")
    request_id = document.get("id", "")
    if not isinstance(request_id, str):
        raise InternalError("Unable to parse 'id': attempt to access JSON non-string as string")
    fields = NO_FIELDS
    binary_default = False
    if "parameters" in document:
        parameters = document["parameters"]
        if not isinstance(parameters, dict):
            raise InternalError("failed to get request params.: attempt to get members for non-object")
        binary_default = _flag(parameters.pop("binary_data_output", False), "Unable to parse 'binary_data_output'")
        fields = split_parameters(parameters)
    inputs = _inputs(document, body, json_bytes, model_name, request_id)
    outputs: tuple[RequestedOutput, ...] = ()
    forms = _BINARY_FORMS if binary_default else _JSON_FORMS
    if "outputs" in document:
        outputs, forms = _outputs(document["outputs"], binary_default)
    request = InferRequest(
        model_name,
        version,
        inputs,
        request_id,
        outputs,
        {**fields.custom, **forwarded} if forwarded else fields.custom,
        fields.correlation_id,
        fields.flags,
        fields.priority,
        fields.timeout_us,
    )
    return Decoded(request, forms)


def _header_length(header: bytes, body_bytes: int) -> int:
    try:
        length = int(header)
    except ValueError:
        raise InvalidArgumentError(
            f"Unable to parse Inference-Header-Content-Length, got: {header.decode('latin-1')}"
        ) from None
    if not 0 <= length <= body_bytes:
        raise InvalidArgumentError(f"inference header size should be in range (0, {body_bytes}), got: {length}")
    return length


def _inputs(document: dict[str, Any], body: bytes, offset: int, model_name: str, request_id: str) -> tuple[Tensor, ...]:
    """The input tensors; binary data is taken from `body` from `offset` on, in the order of the inputs."""
    view = memoryview(body)
    tensors: list[Tensor] = []
    for entry in _array(document, "inputs"):
        tensor, offset = _input(entry, view, offset, model_name)
        if any(tensor.name == other.name for other in tensors):
            raise InvalidArgumentError(f"{request_prefix(request_id)}input '{tensor.name}' already exists in request")
        tensors.append(tensor)
    if offset != len(body):
        raise InvalidArgumentError(f"unexpected additional input data for model '{model_name}'")
    for tensor in tensors:
        check_tensor_bytes(tensor, model_name, request_id)
    return tuple(tensors)


def _input(entry: object, view: memoryview, offset: int, model_name: str) -> tuple[Tensor, int]:
    """One input, and where the next one's binary data begins."""
    fields = entry if isinstance(entry, dict) else _NO_OBJECT
    parameters = fields.get("parameters")
    if not isinstance(parameters, dict):
        parameters = _NO_OBJECT
    if ("data" in fields) + ("binary_data_size" in parameters) + ("shared_memory_region" in parameters) != 1:
        raise InvalidArgumentError(_source_text(fields, parameters))
    name = _string(fields, "name")
    datatype = DATATYPE_BY_NAME.get(_string(fields, "datatype"))
    shape = tuple(_array(fields, "shape"))
    for size in shape:
        if type(size) is not int or not 0 <= size <= _UINT64_MAX:
            raise InternalError(f"Unable to parse 'shape': {_NOT_UNSIGNED}")
    if datatype is None:
        raise InvalidArgumentError(f"invalid datatype for input {name}")
    if "binary_data_size" in parameters:
        byte_size = _unsigned(parameters["binary_data_size"], "Unable to parse 'binary_data_size'")
        end = offset + byte_size
        if end > len(view):
            raise InvalidArgumentError(
                f"unexpected size for input '{name}', expecting {end - len(view)} additional bytes for model "
                f"'{model_name}'"
            )
        return Tensor(name, datatype, shape, view[offset:end]), end
    if "data" not in fields:
        _refuse_shared_memory(parameters)
    element_count = math.prod(shape)
    data = tensor_data_from_json(name, datatype, element_count, fields["data"]) if element_count else b""
    return Tensor(name, datatype, shape, data), offset


def _outputs(value: object, binary_default: bool) -> tuple[tuple[RequestedOutput, ...], OutputForms]:
    """The requested outputs, each name once, and their forms."""
    if not isinstance(value, list):
        raise InternalError("Unable to parse 'outputs': attempt to access JSON non-array as array")
    outputs: dict[str, RequestedOutput] = {}
    binary: dict[str, bool] = {}
    for entry in value:
        fields = entry if isinstance(entry, dict) else _NO_OBJECT
        parameters = fields.get("parameters")
        if not isinstance(parameters, dict):
            parameters = _NO_OBJECT
        in_shared_memory = "shared_memory_region" in parameters
        if in_shared_memory and "classification" in parameters:
            raise InvalidArgumentError("Output can't set both 'shared_memory_region' and 'classification'")
        if in_shared_memory and _flag(parameters.get("binary_data", False), "Unable to set 'binary_data'"):
            raise InvalidArgumentError("Output can't set both 'shared_memory_region' and 'binary_data'")
        name = _string(fields, "name")
        classification = _unsigned(parameters.get("classification", 0), "Unable to set 'classification'")
        if in_shared_memory:
            _refuse_shared_memory(parameters)
        if name not in outputs:
            outputs[name] = RequestedOutput(name, classification, parameters)
            binary[name] = _flag(parameters.get("binary_data", False), "Unable to parse 'binary_data'")
    return tuple(outputs.values()), OutputForms(binary_default, binary)


def _string(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if type(value) is str:
        return value
    if name not in fields:
        raise InternalError(f"Unable to parse '{name}': attempt to access non-existing object member '{name}'")
    raise InternalError(f"Unable to parse '{name}': attempt to access JSON non-string as string")


def _array(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if type(value) is list:
        return value
    if name not in fields:
        raise InternalError(f"Unable to parse '{name}': attempt to access non-existing object member '{name}'")
    raise InternalError(f"Unable to parse '{name}': attempt to access JSON non-array as array")


def _unsigned(value: object, failure: str) -> int:
    if type(value) is int and 0 <= value <= _UINT64_MAX:
        return value
    raise InternalError(f"{failure}: {_NOT_UNSIGNED}")


def _flag(value: object, failure: str) -> bool:
    if type(value) is bool:
        return value
    raise InternalError(f"{failure}: attempt to access JSON non-boolean as boolean")


def _source_text(fields: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    given = [name for name in ("data",) if name in fields]
    given += [name for name in ("binary_data_size", "shared_memory_region") if name in parameters]
    found = "set " + " ".join(f"'{name}'" for name in given) if given else "no field is set"
    return (
        "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
        f"'shared_memory_region' in 'parameters'. But {found}"
    )


def _refuse_shared_memory(parameters: Mapping[str, Any]) -> None:
    """No region can be registered, so none is ever found."""
    region = parameters["shared_memory_region"]
    if not isinstance(region, str):
        raise InternalError("Unable to parse 'shared_memory_region': attempt to access JSON non-string as string")
    raise NotFoundError(f"Unable to find shared memory region: '{region}'")
