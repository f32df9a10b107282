"""Everything the gRPC endpoint serves, put together."""

from __future__ import annotations

from conch.core.api import ServerApi
from conch.wire.api_keys import ApiKeys
from conch.wire.grpc.administration import Administration
from conch.wire.grpc.calls import CallOptions
from conch.wire.grpc.delays import slow
from conch.wire.grpc.dispatch import GrpcCalls, Method, UnaryMethod
from conch.wire.grpc.guard import Guard
from conch.wire.grpc.health import Health
from conch.wire.grpc.infer import Inference
from conch.wire.grpc.messages import COMPRESSION_LEVELS
from conch.wire.grpc.options import GrpcOptions
from conch.wire.grpc.queries import Queries
from conch.wire.grpc.reflection import Reflection
from conch.wire.grpc.shared_memory import SharedMemory
from conch.wire.grpc.trace_settings import TraceSettings
from conch.wire.shared_memory import SharedMemoryRegions


class InferenceService:
    """The inference service, health checking and reflection over one server.

    Attributes:
        calls: what connections serve.
    """

    def __init__(
        self, server: ServerApi, options: GrpcOptions, regions: SharedMemoryRegions, keys: ApiKeys | None
    ) -> None:
        self._administration = Administration(server)
        self._health = Health(server)
        inference = Inference(server, regions, options.header_forward_pattern, options.delays)
        methods: list[Method] = [
            *Queries(server).methods(),
            *SharedMemory(regions).methods(),
            *self._administration.methods(),
            *TraceSettings(server).methods(),
            *self._health.methods(),
        ]
        if options.delays.other_s:
            methods = [
                slow(method, options.delays) if isinstance(method, UnaryMethod) else method for method in methods
            ]
        methods += inference.methods()
        methods += Reflection([method.path for method in methods]).methods()
        level = COMPRESSION_LEVELS[options.compression]
        guard = Guard(keys, options.restrictions) if keys is not None or options.restrictions else None
        self.calls = GrpcCalls(methods, CallOptions(options.max_message_bytes, level, options.allocate), guard)

    def drain(self) -> None:
        """End the calls that would never end by themselves."""
        self._health.drain()

    async def close(self) -> None:
        """Wait for what clients have begun and may not be cut off, and for what was cancelled to stop."""
        await self.calls.unwind()
        await self._administration.finish()
