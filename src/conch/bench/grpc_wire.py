"""`Wire` over gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from conch.bench.channel import Answer, Channel, Dial
from conch.bench.grpc_connection import GrpcConnection
from conch.bench.wires import Address, Call
from conch.errors import ConchError, NotFoundError, UnavailableError
from conch.inference import Parameter
from conch.tensor import Tensor
from conch.tensor.datatype import DATATYPE_BY_NAME
from conch.wire.grpc.methods import INFERENCE_SERVICE
from conch.wire.grpc.protos import pb

_METHODS = {
    "metadata": ("ModelMetadata", pb.ModelMetadataRequest, pb.ModelMetadataResponse),
    "config": ("ModelConfig", pb.ModelConfigRequest, pb.ModelConfigResponse),
    "statistics": ("ModelStatistics", pb.ModelStatisticsRequest, pb.ModelStatisticsResponse),
    "index": ("RepositoryIndex", pb.RepositoryIndexRequest, pb.RepositoryIndexResponse),
}


class GrpcWire:
    """A server's gRPC port; as many calls share a connection as with tritonclient."""

    lanes = 6

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self._timeout_s = timeout_s

    async def dial(self) -> GrpcConnection:
        return await self._dial("ModelInfer")

    def encode(self, call: Call) -> bytes:
        message = pb.ModelInferRequest(model_name=call.model, model_version=call.version)
        for tensor in call.inputs:
            message.inputs.add(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape)
            message.raw_input_contents.append(bytes(tensor.data))
        for name in call.outputs:
            message.outputs.add(name=name)
        for name, value in call.parameters.items():
            setattr(message.parameters[name], _field(value), value)
        return _framed(message)

    def decode(self, answer: Answer) -> dict[str, np.ndarray]:
        message = pb.ModelInferResponse.FromString(answer.body)
        return {
            output.name: Tensor(output.name, DATATYPE_BY_NAME[output.datatype], tuple(output.shape), raw).as_numpy()
            for output, raw in zip(message.outputs, message.raw_output_contents, strict=True)
        }

    async def query(self, what: str, model: str = "", version: str = "") -> dict[str, Any]:
        method, request_type, response_type = _METHODS[what]
        request = request_type() if what == "index" else request_type(name=model, version=version)
        channel = Channel(self._dialler(method), self._timeout_s)
        try:
            answer = await channel.ask(_framed(request))
        finally:
            channel.close()
        if answer.lost:
            raise UnavailableError(answer.error)
        if answer.error:
            status, _, text = answer.error.partition(": ")
            raise NotFoundError(text) if status == "NOT_FOUND" or "unknown model" in text else ConchError(text)
        document: dict[str, Any] = MessageToDict(
            response_type.FromString(answer.body), preserving_proto_field_name=True
        )
        return dict(document.get("config", {})) if what == "config" else document

    def _dialler(self, method: str) -> Dial:
        return lambda: self._dial(method)

    async def _dial(self, method: str) -> GrpcConnection:
        path, authority = f"/{INFERENCE_SERVICE}/{method}", self.address.authority
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: GrpcConnection(path, authority), self.address.host, self.address.port
        )
        return connection


def _field(value: Parameter) -> str:
    if isinstance(value, bool):
        return "bool_param"
    if isinstance(value, int):
        return "int64_param"
    return "double_param" if isinstance(value, float) else "string_param"


def _framed(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return b"\0" + len(data).to_bytes(4) + data
