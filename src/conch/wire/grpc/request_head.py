"""What a ModelInferRequest says but for its id and its tensors' bytes: from protobuf to the server's values."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from conch.errors import ConchError, InvalidArgumentError
from conch.inference import Form, Parameter, RequestedOutput
from conch.tensor import DataType, encode_bytes_elements
from conch.tensor.datatype import DATATYPE_BY_NAME
from conch.wire.codec.parameters import RequestFields
from conch.wire.grpc.tensor_areas import area_of
from conch.wire.shared_memory import Area

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


class InputHead(msgspec.Struct, frozen=True, gc=False):
    """An input but for its raw bytes; `contents` is set where it came as typed values, `area` if it did not come."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    contents: bytes | None
    area: Area | None


class RequestHead(msgspec.Struct, frozen=True):
    """A request but for its id and raw bytes.

    Attributes:
        form: the form of those whose raw bytes are of `sizes`; None where there is none.
    """

    model_name: str
    model_version: str
    inputs: tuple[InputHead, ...]
    outputs: tuple[RequestedOutput, ...]
    fields: RequestFields
    typed: bool
    in_shared_memory: bool
    sizes: list[int]
    form: Form | None


class HeadFault(Exception):
    """Something is wrong with a request's head; `datatype_of` as in UndecodableRequest."""

    def __init__(self, error: ConchError, datatype_of: str = "") -> None:
        super().__init__(error.message)
        self.error = error
        self.datatype_of = datatype_of


def requested_outputs(message: Any) -> tuple[RequestedOutput, ...]:
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


def input_heads(message: Any, request_id: str, raw: bool) -> tuple[InputHead, ...]:
    """The inputs; without `raw` bytes their typed contents are converted here."""
    heads: list[InputHead] = []
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
            raise no_data(name, message.model_name)
        contents = _typed_contents(tensor, message.model_name) if typed else None
        datatype = DATATYPE_BY_NAME.get(tensor.datatype)
        if datatype is None:
            raise HeadFault(InvalidArgumentError(f"invalid datatype '{tensor.datatype}' for input '{name}'"), name)
        heads.append(InputHead(name, datatype, tuple(tensor.shape), contents, area))
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


def no_data(name: str, model_name: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"unable to find data for input tensor '{name}' for model '{model_name}' in request.")
