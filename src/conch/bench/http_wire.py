"""`Wire` over HTTP/1.1: KServe v2 with binary tensors."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import numpy as np

from conch.bench.channel import Answer, Channel
from conch.bench.http_connection import HttpConnection
from conch.bench.wires import Address, Call
from conch.errors import ConchError, NotFoundError, UnavailableError
from conch.tensor import Tensor
from conch.tensor.datatype import DATATYPE_BY_NAME

_PATHS = {"metadata": "", "config": "/config", "statistics": "/stats"}


class HttpWire:
    """A server's HTTP port."""

    lanes = 1

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self._timeout_s = timeout_s

    async def dial(self) -> HttpConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(HttpConnection, self.address.host, self.address.port)
        return connection

    def encode(self, call: Call) -> bytes:
        head: dict[str, Any] = {
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype.value,
                    "shape": tensor.shape,
                    "parameters": {"binary_data_size": tensor.byte_size},
                }
                for tensor in call.inputs
            ]
        }
        if call.outputs:
            head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in call.outputs]
        parameters = dict(call.parameters)
        if not call.outputs:
            parameters["binary_data_output"] = True
        if parameters:
            head["parameters"] = parameters
        text = json.dumps(head, separators=(",", ":")).encode()
        body = b"".join((text, *(tensor.data for tensor in call.inputs)))
        path = f"{_model_path(call.model, call.version)}/infer"
        return _request("POST", path, self.address, body, f"Inference-Header-Content-Length: {len(text)}\r\n")

    def decode(self, answer: Answer) -> dict[str, np.ndarray]:
        size = answer.head_bytes if answer.head_bytes >= 0 else len(answer.body)
        document = json.loads(answer.body[:size])
        outputs: dict[str, np.ndarray] = {}
        at = size
        for entry in document.get("outputs", []):
            datatype, shape = DATATYPE_BY_NAME[entry["datatype"]], tuple(entry["shape"])
            count = entry.get("parameters", {}).get("binary_data_size")
            if count is None:
                data = np.array(entry["data"], dtype=datatype.dtype)
                outputs[entry["name"]] = data.reshape(shape)
                continue
            outputs[entry["name"]] = Tensor(entry["name"], datatype, shape, answer.body[at : at + count]).as_numpy()
            at += count
        return outputs

    async def query(self, what: str, model: str = "", version: str = "") -> dict[str, Any]:
        if what == "index":
            request = _request("POST", "/v2/repository/index", self.address, b"{}")
        else:
            request = _request("GET", _model_path(model, version) + _PATHS[what], self.address)
        channel = Channel(self.dial, self._timeout_s)
        try:
            answer = await channel.ask(request)
        finally:
            channel.close()
        if answer.lost:
            raise UnavailableError(answer.error)
        if answer.error:
            status, _, text = answer.error.partition(": ")
            unknown = status == "404" or "unknown model" in text
            raise NotFoundError(text) if unknown else ConchError(text)
        document = json.loads(answer.body)
        return {"models": document} if what == "index" else document


def _model_path(model: str, version: str) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _request(method: str, path: str, address: Address, body: bytes = b"", header: str = "") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {address.authority}\r\nUser-Agent: conch-bench\r\n"
        f"Content-Type: application/octet-stream\r\n{header}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
