"""What a server listens with: every port it was told to open, from its options."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from conch.config.serve_options import ServeOptions
from conch.core.server import InferenceServer
from conch.errors import ConchError
from conch.tensor.memory import Allocate, heap_memory
from conch.wire.api_keys import ApiKeys
from conch.wire.gpus import Gpus
from conch.wire.grpc.delays import Delays
from conch.wire.grpc.http2.limits import Http2Limits
from conch.wire.grpc.options import GrpcOptions
from conch.wire.grpc.server import GrpcServer
from conch.wire.http.platforms import SageMaker, VertexAi, VertexRoutes, only_model
from conch.wire.http.server import (
    AppServer,
    HttpOptions,
    HttpServer,
    MetricsOptions,
    MetricsServer,
    make_api,
    make_guard,
)
from conch.wire.openai.api import OpenAi
from conch.wire.openai.generation import Defaults
from conch.wire.prometheus import MetricsRenderer
from conch.wire.shared_memory import SharedMemoryRegions
from conch.wire.tls import TlsOptions

_NO_DELAYS = Delays()


class Listener(Protocol):
    """One open port."""

    @property
    def port(self) -> int: ...

    async def start(self) -> None: ...

    async def drain(self, timeout_s: float) -> None: ...

    async def close(self) -> None: ...


def build_listeners(
    server: InferenceServer,
    options: ServeOptions,
    grpc_delays: Delays = _NO_DELAYS,
    gpus: Gpus | None = None,
    allocate: Allocate = heap_memory,
) -> Mapping[str, Listener]:
    """The listeners by the names logs call them; none is started.

    Args:
        gpus: those that the metrics page shows.
        allocate: makes room for large requests.

    Raises:
        InvalidArgumentError: the API keys cannot be read, or a pattern is no regular expression.
    """
    listeners: dict[str, Listener] = {}
    regions = SharedMemoryRegions(allowed=options.allow_client_shm)
    keys = ApiKeys(Path(options.api_key_file)) if options.api_key_file else None
    metrics = MetricsRenderer(
        server,
        cpu_metrics=options.allow_cpu_metrics,
        counter_latencies=options.metrics_config.counter_latencies,
        gpus=gpus,
    )
    http = http_options(options, allocate)
    if options.allow_grpc:
        listeners["GRPCInferenceService"] = GrpcServer(
            server, grpc_options(options, grpc_delays, allocate), regions, keys
        )
    if options.allow_http:
        listeners["HTTPService"] = HttpServer(server, http, regions, keys)
    if options.allow_sagemaker:
        api = make_api(server, http, regions, keys)
        app = SageMaker(server, api, options.sagemaker_default_model, Path(options.sagemaker_model_root))
        listeners["Sagemaker HTTPService"] = AppServer(app, _platform_options(options, options.sagemaker_port))
    if options.allow_vertex_ai:
        vertex = VertexAi(
            server,
            make_api(server, http, regions, keys),
            VertexRoutes(options.vertex_ai_health_route, options.vertex_ai_predict_route),
            functools.partial(_vertex_model, server, options),
            metrics.page,
        )
        listeners["Vertex AI HTTPService"] = AppServer(vertex, _platform_options(options, options.vertex_ai_port))
    if options.allow_openai:
        openai = openai_options(options)
        guard = make_guard(openai, keys)
        defaults = Defaults(options.openai_default_max_tokens, options.openai_tool_call_parser)
        listeners["OpenAI HTTPService"] = AppServer(OpenAi(server, guard, metrics.page, defaults), openai)
    if options.allow_metrics:
        address = MetricsOptions(options.metrics_address or options.http_address, options.metrics_port)
        listeners["Metrics Service"] = MetricsServer(metrics.page, address)
    return listeners


def vertex_obstacle(server: InferenceServer, options: ServeOptions) -> str:
    """Why Vertex AI has no model to predict with, now that models are loaded; "" where it has."""
    try:
        name = _vertex_model(server, options)
    except ConchError as error:
        return error.message
    return "" if server.is_model_ready(name, "") else f"Expect the default model '{name}' is loaded"


def _vertex_model(server: InferenceServer, options: ServeOptions) -> str:
    return options.vertex_ai_default_model or only_model(server)


def _platform_options(options: ServeOptions, port: int) -> HttpOptions:
    """A platform's port: plain text, as the platform ends TLS itself."""
    return HttpOptions(host=options.http_address, port=port, max_input_bytes=options.http_max_input_size)


def _tls(enabled: bool, certificate: str, key: str, root: str, *, mutual: bool) -> TlsOptions | None:
    return TlsOptions(Path(certificate), Path(key), Path(root) if root else None, mutual) if enabled else None


def http_options(options: ServeOptions, allocate: Allocate = heap_memory) -> HttpOptions:
    """The HTTP listener's settings."""
    return HttpOptions(
        host=options.http_address,
        port=options.http_port,
        reuse_port=options.reuse_http_port,
        max_input_bytes=options.http_max_input_size,
        header_forward_pattern=options.http_header_forward_pattern,
        tls=_tls(
            options.http_use_ssl or options.http_use_ssl_mutual,
            options.http_server_cert,
            options.http_server_key,
            options.http_root_cert,
            mutual=options.http_use_ssl_mutual,
        ),
        restrictions=options.http_restricted_api,
        allocate=allocate,
    )


def openai_options(options: ServeOptions) -> HttpOptions:
    """The settings of the OpenAI listener: those of HTTP, TLS among them, at an address of its own."""
    return msgspec.structs.replace(
        http_options(options),
        host=options.openai_address or options.http_address,
        port=options.openai_port,
        reuse_port=False,
        restrictions=options.openai_restricted_api,
    )


def grpc_options(options: ServeOptions, delays: Delays = _NO_DELAYS, allocate: Allocate = heap_memory) -> GrpcOptions:
    """The gRPC listener's settings."""
    never = float("inf")
    limits = Http2Limits(
        keepalive_time_s=options.grpc_keepalive_time / 1000,
        keepalive_timeout_s=options.grpc_keepalive_timeout / 1000,
        keepalive_without_calls=options.grpc_keepalive_permit_without_calls,
        min_ping_interval_s=options.grpc_http2_min_recv_ping_interval_without_data / 1000,
        max_ping_strikes=options.grpc_http2_max_ping_strikes,
        max_age_s=options.grpc_max_connection_age / 1000 if options.grpc_max_connection_age else never,
        max_age_grace_s=options.grpc_max_connection_age_grace / 1000
        if options.grpc_max_connection_age_grace
        else never,
    )
    return GrpcOptions(
        host=options.grpc_address,
        port=options.grpc_port,
        reuse_port=options.reuse_grpc_port,
        tls=_tls(
            options.grpc_use_ssl or options.grpc_use_ssl_mutual,
            options.grpc_server_cert,
            options.grpc_server_key,
            options.grpc_root_cert,
            mutual=options.grpc_use_ssl_mutual,
        ),
        compression=options.grpc_infer_response_compression_level,
        header_forward_pattern=options.grpc_header_forward_pattern,
        restrictions=options.grpc_restricted_protocol,
        limits=limits,
        delays=delays,
        allocate=allocate,
    )
