"""The shared memory endpoints: status, register, unregister."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from conch.errors import InternalError, InvalidArgumentError, NotFoundError
from conch.wire.http.endpoints import Endpoint
from conch.wire.http.json_text import decode_json
from conch.wire.http.messages import HttpRequest, Reply, empty_reply, json_reply
from conch.wire.http.router import Route
from conch.wire.shared_memory import Region, SharedMemoryRegions

#: Size of a `cudaIpcMemHandle_t`.
_CUDA_HANDLE_BYTES = 64


class SharedMemoryEndpoints:
    """The calls by the endpoint names of `router` and HTTP method.

    CUDA regions are never found: without a CUDA device none can be registered.
    """

    def __init__(self, regions: SharedMemoryRegions) -> None:
        self._regions = regions
        self.table: dict[str, dict[bytes, Endpoint]] = {
            "system_memory_status": {b"GET": self.status},
            "system_memory_register": {b"POST": self.register},
            "system_memory_unregister": {b"POST": self.unregister},
            "cuda_memory_status": {b"GET": self.cuda_status},
            "cuda_memory_register": {b"POST": self.cuda_register},
            "cuda_memory_unregister": {b"POST": self.cuda_unregister},
        }

    def status(self, request: HttpRequest, route: Route) -> Reply:
        return json_reply([msgspec.structs.asdict(region) for region in self._regions.status(route.region)])

    def register(self, request: HttpRequest, route: Route) -> Reply:
        if not route.region:
            raise InvalidArgumentError("'region name' is necessary to register system shared memory region")
        fields = _fields(request)
        key = _required(fields, "key")
        if not isinstance(key, str):
            raise InternalError("attempt to access JSON non-string as string")
        offset = _unsigned(fields.get("offset", 0))
        byte_size = _unsigned(_required(fields, "byte_size"))
        self._regions.register(Region(route.region, key, offset, byte_size))
        return empty_reply(content_type="application/json")

    def unregister(self, request: HttpRequest, route: Route) -> Reply:
        self._regions.unregister(route.region)
        return empty_reply(content_type="application/json")

    def cuda_status(self, request: HttpRequest, route: Route) -> Reply:
        if route.region:
            raise NotFoundError(f"Unable to find cuda shared memory region: '{route.region}'")
        return json_reply([])

    def cuda_register(self, request: HttpRequest, route: Route) -> Reply:
        if not route.region:
            raise InvalidArgumentError("'region name' is necessary to register cuda shared memory region")
        fields = _fields(request)
        handle = _required(fields, "raw_handle")
        _unsigned(_member(fields, "byte_size"))
        _unsigned(_member(fields, "device_id"))
        encoded = _member(handle, "b64")
        if not isinstance(encoded, str):
            raise InternalError("attempt to access JSON non-string as string")
        try:
            size = len(base64.b64decode(encoded, validate=True))
        except (binascii.Error, ValueError):
            size = 0
        if size != _CUDA_HANDLE_BYTES:
            raise InvalidArgumentError("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t")
        self._regions.register_cuda(route.region)
        return empty_reply(content_type="application/json")

    def cuda_unregister(self, request: HttpRequest, route: Route) -> Reply:
        return empty_reply(content_type="application/json")


def _fields(request: HttpRequest) -> dict[str, Any]:
    document = decode_json(request.body)
    return document if isinstance(document, dict) else {}


def _required(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise InvalidArgumentError(f"Shared memory register request has no '{name}' field")
    return fields[name]


def _member(value: object, name: str) -> object:
    if not isinstance(value, dict) or name not in value:
        raise InternalError(f"attempt to access non-existing object member '{name}'")
    return value[name]


def _unsigned(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**64:
        raise InternalError("attempt to access JSON non-unsigned-integer as unsigned-integer")
    return value
