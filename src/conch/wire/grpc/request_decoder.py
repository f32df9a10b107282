"""ModelInferRequests from their bytes to the server's values.

Clients send the same request again and again but for its id and its tensors' bytes, so all the rest is parsed once and
looked up by its bytes afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from conch.errors import ConchError
from conch.inference import Form, InferRequest
from conch.tensor import DataType, Tensor
from conch.tensor.tensor import Buffer
from conch.wire.grpc.outcome import RpcError, Status
from conch.wire.grpc.parameters import request_fields
from conch.wire.grpc.protos import pb
from conch.wire.grpc.request_head import HeadFault, RequestHead, input_heads, no_data, requested_outputs
from conch.wire.grpc.tensor_areas import output_areas
from conch.wire.grpc.wire_format import VIEW_BYTES, MalformedMessage, raw_spans, split_infer_request
from conch.wire.shared_memory import SharedMemoryRegions

#: Heads kept, and how large one may be: a bound on what clients can make us remember.
_MAX_HEADS = 1024
_MAX_HEAD_BYTES = 2048

_NO_HEADERS: Mapping[str, str] = {}


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


class _Layout(msgspec.Struct, frozen=True):
    """How messages lie in memory that differ in nothing but their tensors' bytes.

    Attributes:
        gaps: what stands between each tensor's bytes and the next one's.
        spans: where each tensor's bytes begin and end.
    """

    head: RequestHead
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
        self._heads: dict[tuple[bytes, bool], RequestHead] = {}
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

    def _learn_layout(self, message: Buffer, head: RequestHead) -> None:
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

    def _parse(self, rest: bytes, request_id: str, raw: list[Buffer], headers: Mapping[str, str]) -> RequestHead:
        message = _protobuf(rest)
        typed = not raw
        try:
            fields = request_fields(message.parameters, headers)
            outputs = requested_outputs(message)
            inputs = input_heads(message, request_id, not typed)
        except ConchError as error:
            raise UndecodableRequest(error, message, request_id) from error
        except HeadFault as fault:
            raise UndecodableRequest(fault.error, message, request_id, fault.datatype_of) from fault
        in_shared_memory = any(each.area for each in inputs) or bool(output_areas(outputs))
        sizes = [len(data) for data in raw]
        formed = not typed and not in_shared_memory and len(raw) == len(inputs)
        form = Form() if formed and all(each.datatype is not DataType.BYTES for each in inputs) else None
        head = RequestHead(
            message.model_name, message.model_version, inputs, outputs, fields, typed, in_shared_memory, sizes, form
        )
        if len(rest) <= _MAX_HEAD_BYTES and not headers:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            self._heads[rest, not typed] = head
        return head

    def _inputs_in_place(
        self, head: RequestHead, rest: bytes, request_id: str, raw: list[Buffer]
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
    def _missing_data(head: RequestHead, rest: bytes, request_id: str, count: int) -> UndecodableRequest:
        error = no_data(head.inputs[count].name, head.model_name)
        return UndecodableRequest(error, _protobuf(rest), request_id)


def _request(head: RequestHead, inputs: tuple[Tensor, ...], request_id: str, form: Form | None) -> InferRequest:
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
