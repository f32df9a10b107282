"""The body of an inference request: JSON head, binary tensors behind it, or one raw tensor alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from conch.core.api import ModelView
from conch.errors import InternalError, InvalidArgumentError
from conch.inference import Form, InferRequest, Parameter, RequestedOutput, request_prefix
from conch.tensor import DataType, Tensor
from conch.tensor.datatype import DATATYPE_BY_NAME
from conch.tensor.tensor import Buffer
from conch.wire.codec.parameters import NO_FIELDS, RequestFields, split_parameters
from conch.wire.http.json_tensor import tensor_data_from_json
from conch.wire.http.json_text import decode_json
from conch.wire.http.raw_input import raw_tensor
from conch.wire.shared_memory import Area, SharedMemoryRegions

_UINT64_MAX = 2**64 - 1
_NOT_UNSIGNED = "attempt to access JSON non-unsigned-integer as unsigned-integer"
#: Data of this size stay views into the body.
_VIEW_BYTES = 1024
#: Longest head that is kept to be recognized.
_CACHED_BYTES = 2048
_NO_OBJECT: Mapping[str, Any] = {}


class OutputForms(msgspec.Struct, frozen=True, gc=False):
    """How outputs are to be written.

    Attributes:
        binary_default: form of outputs the client did not list.
        binary: output name -> binary or JSON, for those it listed.
        areas: output name -> where in shared memory it goes, for those that do not travel.
        plain: all outputs are binary, and are the model's own: nothing in shared memory, no classes.
    """

    binary_default: bool = False
    binary: Mapping[str, bool] = {}
    areas: Mapping[str, Area] = {}
    plain: bool = False


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """A decoded request and how its outputs are to be written."""

    request: InferRequest
    forms: OutputForms


class _Input(msgspec.Struct, frozen=True, gc=False):
    """An input as the head describes it: `byte_size` of binary data behind the head, or -1 and the JSON `data`.

    `area` says where in shared memory it lies instead.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    byte_size: int
    data: object
    area: Area | None = None


class _Head(msgspec.Struct, frozen=True):
    """The JSON part of a request, checked."""

    id: str
    fields: RequestFields
    inputs: tuple[_Input, ...]
    outputs: tuple[RequestedOutput, ...]
    forms: OutputForms
    form: Form | None


_JSON_FORMS = OutputForms()
_BINARY_FORMS = OutputForms(binary_default=True, plain=True)


class Target(msgspec.Struct, frozen=True):
    """What a request is sent to.

    Attributes:
        view: the model asked for.
        version: the version in the path, "" for none.
        regions: the shared memory its tensors may lie in.
    """

    view: ModelView
    version: str
    regions: SharedMemoryRegions


def decode_infer(target: Target, body: Buffer, header: bytes | None, forwarded: Mapping[str, Parameter]) -> Decoded:
    """Decode an inference request.

    Args:
        body: the decompressed body; tensors are views into it.
        header: value of Inference-Header-Content-Length, None when absent: the body is JSON alone. 0 makes the body
            the data of the model's only input.
        forwarded: request headers that become parameters.

    Raises:
        InternalError: not JSON, or a JSON value of the wrong type.
        InvalidArgumentError, NotFoundError: what else is wrong with it.
    """
    json_bytes = len(body) if header is None else _header_length(header, len(body))
    version, model_name = target.version, target.view.config.name
    if json_bytes == 0:
        tensor = raw_tensor(target.view.config, body)
        return Decoded(InferRequest(model_name, version, (tensor,), parameters=forwarded), _BINARY_FORMS)
    if json_bytes == len(body):
        parsed = _parse_head(body)
    elif json_bytes <= _CACHED_BYTES:
        parsed = _parse_head_once(bytes(body[:json_bytes]))
    else:
        parsed = _parse_head(memoryview(body)[:json_bytes])
    fields = parsed.fields
    request = InferRequest(
        model_name,
        version,
        _tensors(parsed, body, json_bytes, target),
        parsed.id,
        parsed.outputs,
        {**fields.custom, **forwarded} if forwarded else fields.custom,
        fields.correlation_id,
        fields.flags,
        fields.priority,
        fields.timeout_us,
        form=parsed.form,
    )
    if parsed.forms.areas:
        for area in parsed.forms.areas.values():
            target.regions.view(area)
    return Decoded(request, parsed.forms)


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


def _tensors(head: _Head, body: Buffer, offset: int, target: Target) -> tuple[Tensor, ...]:
    """The input tensors; binary data is taken from `body` from `offset` on, in the order of the inputs."""
    tensors: list[Tensor] = []
    for entry in head.inputs:
        data: Buffer
        if entry.byte_size >= 0:
            end = offset + entry.byte_size
            if end > len(body):
                raise InvalidArgumentError(
                    f"unexpected size for input '{entry.name}', expecting {end - len(body)} additional bytes for model "
                    f"'{target.view.config.name}'"
                )
            # A small copy is cheaper than a view.
            data = bytes(body[offset:end]) if entry.byte_size < _VIEW_BYTES else memoryview(body)[offset:end]
            offset = end
        elif entry.area is not None:
            data = target.regions.view(entry.area).toreadonly()
        else:
            # A shape without elements, or none at all, is judged by the model's rules: `data` is not looked at.
            count = math.prod(entry.shape) if entry.shape else 0
            data = tensor_data_from_json(entry.name, entry.datatype, count, entry.data) if count else b""
        tensors.append(Tensor(entry.name, entry.datatype, entry.shape, data))
    if offset != len(body):
        raise InvalidArgumentError(f"unexpected additional input data for model '{target.view.config.name}'")
    return tuple(tensors)


def _parse_head(text: Buffer) -> _Head:
    document = decode_json(text)
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
    inputs: dict[str, _Input] = {}
    for entry in _array(document, "inputs"):
        parsed = _parse_input(entry)
        if parsed.name in inputs:
            raise InvalidArgumentError(f"{request_prefix(request_id)}input '{parsed.name}' already exists in request")
        inputs[parsed.name] = parsed
    outputs: tuple[RequestedOutput, ...] = ()
    forms = _BINARY_FORMS if binary_default else _JSON_FORMS
    if "outputs" in document:
        outputs, forms = _parse_outputs(document["outputs"], binary_default)
    given = tuple(inputs.values())
    all_sized = all(entry.byte_size >= 0 and entry.datatype is not DataType.BYTES for entry in given)
    return _Head(request_id, fields, given, outputs, forms, Form() if all_sized else None)


#: Heads in front of binary data are small and come again and again: equal ones are parsed once.
_parse_head_once = lru_cache(maxsize=1024)(_parse_head)


def _parse_input(entry: object) -> _Input:
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
        return _Input(name, datatype, shape, byte_size, None)
    if "data" not in fields:
        return _Input(name, datatype, shape, -1, None, _area(parameters))
    return _Input(name, datatype, shape, -1, fields["data"])


def _parse_outputs(value: object, binary_default: bool) -> tuple[tuple[RequestedOutput, ...], OutputForms]:
    """The requested outputs, each name once, and their forms."""
    if not isinstance(value, list):
        raise InternalError("Unable to parse 'outputs': attempt to access JSON non-array as array")
    outputs: dict[str, RequestedOutput] = {}
    binary: dict[str, bool] = {}
    areas: dict[str, Area] = {}
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
        if name not in outputs:
            outputs[name] = RequestedOutput(name, classification, parameters)
            binary[name] = _flag(parameters.get("binary_data", False), "Unable to parse 'binary_data'")
            if in_shared_memory:
                areas[name] = _area(parameters)
    plain = all(binary.values()) and not areas and not any(output.classification for output in outputs.values())
    if not outputs:
        plain = binary_default
    return tuple(outputs.values()), OutputForms(binary_default, binary, areas, plain)


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


def _area(parameters: Mapping[str, Any]) -> Area:
    region = parameters["shared_memory_region"]
    if not isinstance(region, str):
        raise InternalError("Unable to parse 'shared_memory_region': attempt to access JSON non-string as string")
    offset, byte_size = (
        _unsigned(parameters.get(name, 0), f"Unable to parse '{name}'")
        for name in ("shared_memory_offset", "shared_memory_byte_size")
    )
    return Area(region, offset, byte_size)
