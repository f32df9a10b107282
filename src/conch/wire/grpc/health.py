"""grpc.health.v1.Health: SERVING while the server is ready. As in Triton, any service name gets the same answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from conch.core.api import ServerApi
from conch.wire.grpc.descriptors import ProtoFile
from conch.wire.grpc.dispatch import Method, StreamMethod
from conch.wire.grpc.methods import parse, unary
from conch.wire.grpc.stream_call import StreamCall

_UNKNOWN, SERVING, NOT_SERVING, _SERVICE_UNKNOWN = range(4)

#: How often a watched server is looked at.
_WATCH_S = 0.5


def health_file() -> ProtoFile:
    """grpc/health/v1/health.proto."""
    file = ProtoFile("grpc/health/v1/health.proto", "grpc.health.v1")
    file.message("HealthCheckRequest", [("service", 1, "string", False)])
    response = file.message("HealthCheckResponse", [("status", 1, "HealthCheckResponse.ServingStatus", False)])
    statuses = response.enum_type.add(name="ServingStatus")
    for number, name in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")):
        statuses.value.add(name=name, number=number)
    message = ("HealthCheckRequest", "HealthCheckResponse")
    file.service("Health", {"Check": (*message, False, False), "Watch": (*message, False, True)})
    return file


_CLASSES = health_file().classes()


class Health:
    """Health checking."""

    def __init__(self, server: ServerApi) -> None:
        self._server = server
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """From now on the server is not serving, and nobody can watch it any longer."""
        self._draining.set()

    def methods(self) -> list[Method]:
        """What is served, by path."""
        return [
            unary("/grpc.health.v1.Health/Check", _CLASSES["HealthCheckRequest"], self._check),
            StreamMethod("/grpc.health.v1.Health/Watch", self._watch),
        ]

    def _status(self) -> int:
        return SERVING if self._server.is_ready() and not self._draining.is_set() else NOT_SERVING

    def _check(self, request: Any) -> Any:
        return _CLASSES["HealthCheckResponse"](status=self._status())

    async def _watch(self, call: StreamCall) -> None:
        """The status now, and every change of it, for as long as the client listens."""
        async for message in call:
            parse(_CLASSES["HealthCheckRequest"], message)
        told = _UNKNOWN
        while True:
            status = self._status()
            if status != told:
                await call.send([_CLASSES["HealthCheckResponse"](status=status).SerializeToString()])
                told = status
            if self._draining.is_set():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), _WATCH_S)
