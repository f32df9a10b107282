"""ModelInferRequest and ModelInferResponse between their bytes and the server's values.

Clients send the same request again and again but for its id and its tensors' bytes, so all the rest is parsed once and
looked up by its bytes afterwards; answers are put together from pieces kept the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from google.protobuf.message import DecodeError

from conch.errors import ConchError, InvalidArgumentError
from conch.inference import Form, InferRequest, InferResponse, Parameter, RequestedOutput
from conch.tensor import DataType, Tensor, encode_bytes_elements
from conch.tensor.datatype import DATATYPE_BY_NAME
from conch.tensor.tensor import Buffer
from conch.wire.codec.parameters import RequestFields
from conch.wire.grpc.outcome import RpcError, Status
from conch.wire.grpc.parameters import request_fields, set_parameter
from conch.wire.grpc.protos import pb
from conch.wire.grpc.tensor_areas import area_of, output_areas
from conch.wire.grpc.wire_format import (
    VIEW_BYTES,
    MalformedMessage,
    encode_string,
    encode_varint,
    raw_spans,
    split_infer_request,
)
from conch.wire.shared_memory import Area, SharedMemoryRegions

#: Heads kept, and how large one may be: a bound on what clients can make us remember.
_MAX_HEADS = 1024
_MAX_HEAD_BYTES = 2048

_NO_HEADERS: Mapping[str, str] = {}

#: `contents` fields in the order they are checked, and the datatype each is named by in errors.
_CONTENTS = (
    ("bool_contents", "BOOL"),
    ("int_contents", "INT32"),
    ("int64_contents", "INT64"),
    ("uint_contents", "UINT32"),
    ("uint64_contents", "UINT64"),
    ("fp32_contents", "FP32"),
    ("fp64_contents", "FP64"),
    ("bytes_contents", "BYTES"),
)
_NARROWER = {"INT8": "INT32", "INT16": "INT32", "UINT8": "UINT32", "UINT16": "UINT32"}


class UndecodableRequest(Exception):
    """A request of which enough is understood to say whose it is; `error` is what is wrong with it.

    `invalid_datatype_of` names the input whose datatype is none, for which the model's own would be expected.
    """

    def __init__(self, error: ConchError, head: Any, request_id: str, datatype_of: str = "") -> None:
        super().__init__(error.message)
        self.error = error
        self.model_name = head.model_name
        self.model_version = head.model_version
        self.id = request_id
        self.invalid_datatype_of = datatype_of


class _InputHead(msgspec.Struct, frozen=True, gc=False):
    """An input but for its raw bytes; `contents` is set where it came as typed values, `area` if it did not come."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    contents: bytes | None
    area: Area | None


class _RequestHead(msgspec.Struct, frozen=True):
    """A request but for its id and raw bytes.

    Attributes:
        form: the form of those whose raw bytes are of `sizes`; None where there is none.
    """

    model_name: str
    model_version: str
    inputs: tuple[_InputHead, ...]
    outputs: tuple[RequestedOutput, ...]
    fields: RequestFields
    typed: bool
    in_shared_memory: bool
    sizes: list[int]
    form: Form | None


class _Fault(Exception):
    """Something is wrong with a request's head; `datatype_of` as in UndecodableRequest."""

    def __init__(self, error: ConchError, datatype_of: str = "") -> None:
        super().__init__(error.message)
        self.error = error
        self.datatype_of = datatype_of


class _Layout(msgspec.Struct, frozen=True):
    """How messages lie in memory that differ in nothing but their tensors' bytes.

    Attributes:
        gaps: what stands between each tensor's bytes and the next one's.
        spans: where each tensor's bytes begin and end.
    """

    head: _RequestHead
    gaps: tuple[bytes, ...]
    spans: list[tuple[int, int]]

    def raw(self, message: Buffer) -> list[Buffer] | None:
        """The tensors' bytes; None where the gaps are others."""
        spans = self.spans
        for gap, (_, end), (start, _) in zip(self.gaps, spans, spans[1:], strict=False):
            if message[end:start] != gap:
                return None
        return [
            bytes(message[start:end]) if end - start < VIEW_BYTES else memoryview(message)[start:end]
            for start, end in spans
        ]


class RequestDecoder:
    """Serialized ModelInferRequests to InferRequests; `regions` is the shared memory their tensors may lie in."""

    def __init__(self, regions: SharedMemoryRegions) -> None:
        self._regions = regions
        self._heads: dict[tuple[bytes, bool], _RequestHead] = {}
        #: Size of a message -> where its first tensor's bytes begin; and what stands before them -> its layout.
        self._beginnings: dict[int, int] = {}
        self._layouts: dict[tuple[int, bytes], _Layout] = {}

    def decode(self, message: Buffer, headers: Mapping[str, str] = _NO_HEADERS) -> InferRequest:
        """One request; large tensors are views into `message`. `headers` become custom parameters.

        Raises:
            RpcError: the bytes are no ModelInferRequest.
            UndecodableRequest: the request is at fault.
        """
        if not headers and (known := self._decode_known(message)) is not None:
            return known
        try:
            rest, request_id, raw = split_infer_request(message)
        except MalformedMessage:
            # Fields from a newer protocol, or garbage: protobuf decides.
            rest, request_id, raw = _split_by_protobuf(message)
        inputs: tuple[Tensor, ...]
        head = self._heads.get((rest, bool(raw))) if not headers else None
        if head is None:
            head = self._parse(rest, request_id, raw, headers)
        if head.in_shared_memory:
            inputs = self._inputs_in_place(head, rest, request_id, raw)
        elif len(head.inputs) == 1 and raw:
            [one] = head.inputs
            inputs = (Tensor(one.name, one.datatype, one.shape, raw[0]),)
        elif head.typed:
            inputs = tuple(Tensor(i.name, i.datatype, i.shape, i.contents or b"") for i in head.inputs)
        elif len(raw) >= len(head.inputs):
            inputs = tuple(Tensor(i.name, i.datatype, i.shape, data) for i, data in zip(head.inputs, raw, strict=False))
        else:
            raise self._missing_data(head, rest, request_id, len(raw))
        form = head.form
        if form is not None and [len(data) for data in raw] != head.sizes:
            form = None
        if form is not None and not request_id and not headers:
            self._learn_layout(message, head)
        return _request(head, inputs, request_id, form)

    def _decode_known(self, message: Buffer) -> InferRequest | None:
        """A request that differs from an earlier one in its tensors' bytes only; None for others."""
        begin = self._beginnings.get(len(message))
        if begin is None:
            return None
        layout = self._layouts.get((len(message), bytes(message[:begin])))
        raw = None if layout is None else layout.raw(message)
        if layout is None or raw is None:
            return None
        head = layout.head
        named = zip(head.inputs, raw, strict=True)
        return _request(head, tuple([Tensor(i.name, i.datatype, i.shape, data) for i, data in named]), "", head.form)

    def _learn_layout(self, message: Buffer, head: _RequestHead) -> None:
        spans = raw_spans(message)
        if len(spans) != len(head.inputs) or spans[0][0] > _MAX_HEAD_BYTES:
            return
        if len(self._layouts) >= _MAX_HEADS:
            self._layouts.clear()
            self._beginnings.clear()
        begin = spans[0][0]
        gaps = tuple(bytes(message[end:start]) for (_, end), (start, _) in itertools.pairwise(spans))
        self._beginnings[len(message)] = begin
        self._layouts[len(message), bytes(message[:begin])] = _Layout(head, gaps, spans)

    def _parse(self, rest: bytes, request_id: str, raw: list[Buffer], headers: Mapping[str, str]) -> _RequestHead:
        message = _protobuf(rest)
        typed = not raw
        try:
            fields = request_fields(message.parameters, headers)
            outputs = _requested_outputs(message)
            inputs = _input_heads(message, request_id, not typed)
        except ConchError as error:
            raise UndecodableRequest(error, message, request_id) from error
        except _Fault as fault:
            raise UndecodableRequest(fault.error, message, request_id, fault.datatype_of) from fault
        in_shared_memory = any(each.area for each in inputs) or bool(output_areas(outputs))
        sizes = [len(data) for data in raw]
        formed = not typed and not in_shared_memory and len(raw) == len(inputs)
        form = Form() if formed and all(each.datatype is not DataType.BYTES for each in inputs) else None
        head = _RequestHead(
            message.model_name, message.model_version, inputs, outputs, fields, typed, in_shared_memory, sizes, form
        )
        if len(rest) <= _MAX_HEAD_BYTES and not headers:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            self._heads[rest, not typed] = head
        return head

    def _inputs_in_place(
        self, head: _RequestHead, rest: bytes, request_id: str, raw: list[Buffer]
    ) -> tuple[Tensor, ...]:
        """The inputs of a request of which some lie, or some outputs shall lie, in shared memory."""
        travelled = iter(raw)
        inputs: list[Tensor] = []
        try:
            for area in output_areas(head.outputs).values():
                self._regions.view(area)
            for index, each in enumerate(head.inputs):
                data: Buffer | None = each.contents
                if each.area is not None:
                    data = self._regions.view(each.area).toreadonly()
                elif not head.typed:
                    data = next(travelled, None)
                if data is None:
                    raise self._missing_data(head, rest, request_id, index)
                inputs.append(Tensor(each.name, each.datatype, each.shape, data))
        except ConchError as error:
            raise UndecodableRequest(error, _protobuf(rest), request_id) from error
        return tuple(inputs)

    @staticmethod
    def _missing_data(head: _RequestHead, rest: bytes, request_id: str, count: int) -> UndecodableRequest:
        error = _no_data(head.inputs[count].name, head.model_name)
        return UndecodableRequest(error, _protobuf(rest), request_id)


def _request(head: _RequestHead, inputs: tuple[Tensor, ...], request_id: str, form: Form | None) -> InferRequest:
    fields = head.fields
    return InferRequest(
        head.model_name,
        head.model_version,
        inputs,
        request_id,
        head.outputs,
        fields.custom,
        fields.correlation_id,
        fields.flags,
        fields.priority,
        fields.timeout_us,
        fields.empty_final,
        form=form,
    )


def _protobuf(data: Buffer) -> Any:
    try:
        return pb.ModelInferRequest.FromString(bytes(data))
    except DecodeError as error:
        raise RpcError(Status.INTERNAL, "Unable to parse request") from error


def _split_by_protobuf(message: Buffer) -> tuple[bytes, str, list[Buffer]]:
    request = _protobuf(message)
    raw: list[Buffer] = list(request.raw_input_contents)
    request_id = request.id
    request.ClearField("raw_input_contents")
    request.ClearField("id")
    return request.SerializeToString(), request_id, raw


def _requested_outputs(message: Any) -> tuple[RequestedOutput, ...]:
    outputs: dict[str, RequestedOutput] = {}
    for output in message.outputs:
        classification = 0
        parameters: dict[str, Parameter] = {}
        for name, parameter in output.parameters.items():
            kind = parameter.WhichOneof("parameter_choice")
            if name == "classification":
                if kind != "int64_param":
                    raise InvalidArgumentError(
                        "invalid value type for 'classification' parameter, expected int64_param"
                    )
                if parameter.int64_param <= 0:
                    raise InvalidArgumentError("invalid value for 'classification' parameter, expected >= 0")
                classification = parameter.int64_param
            elif kind is not None:
                parameters[name] = getattr(parameter, kind)
        if area_of(output) and classification:
            raise InvalidArgumentError("output can't set both 'shared_memory_region' and 'classification'")
        outputs[output.name] = RequestedOutput(output.name, classification, parameters)
    return tuple(outputs.values())


def _input_heads(message: Any, request_id: str, raw: bool) -> tuple[_InputHead, ...]:
    """The inputs; without `raw` bytes their typed contents are converted here."""
    heads: list[_InputHead] = []
    names: set[str] = set()
    for tensor in message.inputs:
        name = tensor.name
        if name in names:
            text = f"[request id: {request_id or '<id_unknown>'}] input '{name}' already exists in request"
            raise InvalidArgumentError(text)
        names.add(name)
        area = area_of(tensor)
        typed = tensor.HasField("contents")
        if area is not None and typed:
            raise InvalidArgumentError(
                f"unexpected 'content' provided when using shared memory for input tensor '{name}' for model "
                f"'{message.model_name}'"
            )
        if raw and typed:
            raise InvalidArgumentError(
                f"contents field must not be specified when using raw_input_contents for '{name}' for model "
                f"'{message.model_name}'"
            )
        if not raw and not typed and area is None:
            raise _no_data(name, message.model_name)
        contents = _typed_contents(tensor, message.model_name) if typed else None
        datatype = DATATYPE_BY_NAME.get(tensor.datatype)
        if datatype is None:
            raise _Fault(InvalidArgumentError(f"invalid datatype '{tensor.datatype}' for input '{name}'"), name)
        heads.append(_InputHead(name, datatype, tuple(tensor.shape), contents, area))
    return tuple(heads)


def _typed_contents(tensor: Any, model_name: str) -> bytes:
    """The raw form of an input's typed `contents`."""
    data = b""
    for field, named in _CONTENTS:
        values = getattr(tensor.contents, field)
        if not values:
            continue
        if data:
            raise InvalidArgumentError(
                f"unexpected explicit tensor data for input tensor '{tensor.name}' for model '{model_name}', binary "
                "data was already supplied."
            )
        if _NARROWER.get(tensor.datatype, tensor.datatype) != named:
            expected = tensor.datatype if tensor.datatype in DATATYPE_BY_NAME else "<invalid>"
            raise InvalidArgumentError(
                f"unexpected explicit tensor data for input tensor '{tensor.name}' for model '{model_name}' of type "
                f"'{named}', expected datatype '{expected}'"
            )
        if named == "BYTES":
            data = encode_bytes_elements(values)
        else:
            wide = np.array(values, dtype=DATATYPE_BY_NAME[named].dtype)
            data = wide.astype(DATATYPE_BY_NAME[tensor.datatype].dtype).tobytes()
    return data


def _no_data(name: str, model_name: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"unable to find data for input tensor '{name}' for model '{model_name}' in request.")


class ResponseEncoder:
    """InferResponses to serialized ModelInferResponses. Outputs always go as `raw_output_contents`."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], bytes] = {}
        self._outputs: dict[tuple[str, str, tuple[int, ...]], bytes] = {}

    def encode(self, response: InferResponse, extra: bytes = b"") -> list[Buffer]:
        """The message in pieces, large tensors as they are; `extra` are more serialized `parameters` entries."""
        model = self._models.get((response.model_name, response.model_version))
        if model is None:
            model = self._model_head(response.model_name, response.model_version)
        parts: list[Buffer] = [model]
        if response.id:
            parts.append(encode_string(0x1A, response.id))
        if response.parameters:
            parts.append(_parameters(response.parameters))
        if extra:
            parts.append(extra)
        raw: list[Buffer] = []
        outputs = self._outputs
        for tensor in response.outputs:
            key = (tensor.name, tensor.datatype._value_, tensor.shape)
            head = outputs.get(key)
            parts.append(self._output_head(key) if head is None else head)
            data = tensor.data
            size = len(data)
            raw.append(b"\x32" + encode_varint(size))
            if size:
                raw.append(data)
        parts += raw
        return parts

    def _model_head(self, name: str, version: str) -> bytes:
        if len(self._models) >= _MAX_HEADS:
            self._models.clear()
        head = self._models[name, version] = encode_string(0x0A, name) + encode_string(0x12, version)
        return head

    def _output_head(self, key: tuple[str, str, tuple[int, ...]]) -> bytes:
        name, datatype, shape = key
        output = pb.ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape).SerializeToString()
        if len(self._outputs) >= _MAX_HEADS:
            self._outputs.clear()
        head: bytes = b"\x2a" + encode_varint(len(output)) + output
        self._outputs[key] = head
        return head


def _parameters(parameters: Mapping[str, Parameter]) -> bytes:
    message = pb.ModelInferResponse()
    for name, value in parameters.items():
        set_parameter(message.parameters[name], value)
    return bytes(message.SerializeToString())


#: Serialized `parameters` entry: a response is the last one for its request.
FINAL_RESPONSE = _parameters({"triton_final_response": True})

#: The same of a response after which others come.
FURTHER_RESPONSE = _parameters({"triton_final_response": False})


def encode_stream_response(parts: list[Buffer]) -> list[Buffer]:
    """A serialized ModelInferResponse as the `infer_response` of a ModelStreamInferResponse."""
    return [b"\x12" + encode_varint(sum(map(len, parts))), *parts]


def encode_stream_error(message: str, model_name: str, request_id: str, place: bytes) -> list[Buffer]:
    """A ModelStreamInferResponse that says how one request failed.

    `place` is FINAL_RESPONSE or FURTHER_RESPONSE for what a model answered, b"" for a request that was not accepted.
    """
    response = encode_string(0x0A, model_name) + encode_string(0x1A, request_id) + place
    return [encode_string(0x0A, message), b"\x12" + encode_varint(len(response)) + response]
