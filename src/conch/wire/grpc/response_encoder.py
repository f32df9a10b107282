"""The server's answers to serialized ModelInferResponses, put together from pieces that are kept."""

from __future__ import annotations

from collections.abc import Mapping

from conch.inference import InferResponse, Parameter
from conch.tensor.tensor import Buffer
from conch.wire.grpc.parameters import set_parameter
from conch.wire.grpc.protos import pb
from conch.wire.grpc.wire_format import encode_string, encode_varint

#: Pieces kept of a kind: a bound on what clients can make us remember.
_MAX_HEADS = 1024


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
