"""Short ways to write requests down."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..messages import GrpcRequest, HttpRequest, Scenario

COUNT = list(range(16))
ONES = [1] * 16


def get(path: str, **fields: Any) -> HttpRequest:
    return HttpRequest("GET", path, **fields)


def post(path: str, body: Any = None, **fields: Any) -> HttpRequest:
    """`body` is sent as JSON, a string as it is, None as nothing."""
    text = "" if body is None else body if isinstance(body, str) else json.dumps(body)
    return HttpRequest("POST", path, text=text, **fields)


def infer(model: str, body: Any, *, version: str = "", **fields: Any) -> HttpRequest:
    middle = f"/versions/{version}" if version else ""
    return post(f"/v2/models/{model}{middle}/infer", body, **fields)


def infer_binary(model: str, body: Any, tail: bytes, *, header: str | None = None, **fields: Any) -> HttpRequest:
    """JSON and then binary tensors; `header` is Inference-Header-Content-Length where it is not the JSON's length."""
    text = body if isinstance(body, str) else json.dumps(body)
    length = str(len(text.encode())) if header is None else header
    headers = {"Inference-Header-Content-Length": length, **fields.pop("headers", {})}
    return HttpRequest("POST", f"/v2/models/{model}/infer", headers=headers, text=text, binary=tail, **fields)


def tensor(name: str, datatype: str, shape: Sequence[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    """An input of an inference request; without `data` the field is left out."""
    described: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(shape)}
    if parameters:
        described["parameters"] = parameters
    if data is not None:
        described["data"] = data
    return described


def simple(**changes: Any) -> dict[str, Any]:
    """A good request to `simple`; keyword arguments replace or add top-level keys."""
    inputs = [tensor("INPUT0", "INT32", [1, 16], COUNT), tensor("INPUT1", "INT32", [1, 16], ONES)]
    return {"inputs": inputs, **changes}


def simple_with(**changes: Any) -> dict[str, Any]:
    """A request to `simple` whose first input has these keys changed; a value of None removes the key."""
    body = simple()
    body["inputs"][0].update(changes)
    body["inputs"][0] = {key: value for key, value in body["inputs"][0].items() if value is not None}
    return body


def int32(values: Sequence[int]) -> bytes:
    return np.array(values, dtype=np.int32).tobytes()


def fp32(values: Sequence[float]) -> bytes:
    return np.array(values, dtype=np.float32).tobytes()


def byte_strings(*values: bytes) -> bytes:
    """The BYTES form of a tensor: each element after its length in four little-endian bytes."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def base64_text(value: str | bytes) -> str:
    """Bytes as proto3 JSON writes them."""
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def rpc(method: str, *messages: dict[str, Any], **fields: Any) -> GrpcRequest:
    return GrpcRequest(method, list(messages) or [{}], **fields)


def scenarios(**named: HttpRequest | GrpcRequest) -> list[Scenario]:
    """A scenario for each keyword; underscores in the name read as spaces."""
    return [Scenario(name.replace("_", " "), request) for name, request in named.items()]


def settled(**named: HttpRequest | GrpcRequest) -> list[Scenario]:
    """Scenarios whose answers count requests."""
    return [Scenario(name.replace("_", " "), request, settle=True) for name, request in named.items()]
