"""The composition root: the only place that knows every concrete class, and makes a server of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from conch import __version__
from conch.backend_api import ReadinessBackend
from conch.backends.registry import BackendRegistry
from conch.config.cache_options import CacheOptions, LocalCacheOptions
from conch.config.serve_options import ServeOptions
from conch.config.trace_options import TraceOptions
from conch.core.api import ServerMetadata
from conch.core.batch_hold import Holds
from conch.core.cache import LocalCache, ResponseCache
from conch.core.cache_redis import RedisCache
from conch.core.clock import Clock, SystemClock
from conch.core.lifecycle import Lifecycle
from conch.core.loading import Loader, LoadOptions
from conch.core.log_settings import LogControl
from conch.core.metrics import CustomMetrics
from conch.core.model import Model
from conch.core.model_access import ModelAccess
from conch.core.repository import Repository
from conch.core.server import EXTENSIONS, InferenceServer
from conch.core.trace_file import TraceFiles
from conch.core.trace_otlp import OtlpSink
from conch.core.tracing import Tracing
from conch.errors import ConchError
from conch.process import visible_gpu_count
from conch.repositories.opening import open_repository
from conch.wire.grpc.delays import Delays


class StartupError(Exception):
    """The server cannot start; the text says why and what to do."""


def open_repositories(options: ServeOptions, environment: Mapping[str, str]) -> Sequence[Repository]:
    """The model repositories.

    Raises:
        StartupError: one of them is none.
    """
    cache = options.repository_cache_directory
    try:
        return [open_repository(location, cache, environment) for location in options.model_repository]
    except ConchError as error:
        raise StartupError(error.message) from error


def build_server(
    options: ServeOptions,
    logs: LogControl,
    repositories: Sequence[Repository],
    registry: BackendRegistry | None = None,
) -> InferenceServer:
    """The core with its backends, without any listener. Must be called on the event loop."""
    registry = registry or BackendRegistry(directory=backend_directory(options))
    clock = SystemClock()
    metrics = CustomMetrics()
    load_options = LoadOptions(
        auto_complete=not options.disable_auto_complete_config,
        config_name=options.model_config_name,
        backend_settings=options.backend_config,
        gpu_count=visible_gpu_count(),
        retry_count=options.model_load_retry_count,
        holds=scheduler_holds(os.environ),
        rate_limits=options.rate_limit_resource if options.rate_limit == "execution_count" else None,
        metrics=options.metrics_config,
    )
    cache = build_cache(options.cache_config, clock)
    models = ModelAccess()
    loader = Loader(registry.find, load_options, metrics, clock, cache, models)
    threads, namespacing = options.model_load_thread_count, options.model_namespacing
    lifecycle = Lifecycle(repositories, loader, clock, threads, namespacing)
    server = InferenceServer(
        ServerMetadata(options.id, __version__, EXTENSIONS),
        lifecycle,
        metrics,
        logs,
        control=options.model_control_mode,
        strict_readiness=options.strict_readiness,
        cache=cache,
        tracing=build_tracing(options.trace_config),
        ask_readiness=functools.partial(ask_readiness, registry),
    )
    models.connect(server)
    return server


async def ask_readiness(registry: BackendRegistry, model: Model) -> bool:
    """Whether the model itself says that it is ready; those of backends without such a question are."""
    if not model.config.backend:  # an ensemble
        return True
    backend = registry.find(model.config.backend)
    if not isinstance(backend, ReadinessBackend):
        return True
    return await backend.is_ready(model.directory, model.version)


def backend_directory(options: ServeOptions) -> Path | None:
    """Where Python-based backends are looked for."""
    return Path(options.backend_directory) if options.backend_directory else None


def build_cache(options: CacheOptions, clock: Clock) -> ResponseCache | None:
    """The response cache; None where its size is 0. Must be called on the event loop.

    Raises:
        StartupError: what it needs is not installed.
    """
    if isinstance(options, LocalCacheOptions):
        return LocalCache(options.size, clock) if options.size else None
    try:
        return RedisCache(options, clock)
    except ConchError as error:
        raise StartupError(error.message) from error


def build_tracing(options: TraceOptions) -> Tracing:
    """Tracing with the sink of its mode.

    Raises:
        StartupError: what it needs is not installed.
    """
    if options.mode == "triton":
        return Tracing(options, TraceFiles(options.file))
    try:
        return Tracing(options, OtlpSink(options))
    except ConchError as error:
        raise StartupError(error.message) from error


def scheduler_holds(environment: Mapping[str, str]) -> Holds:
    """What Triton's variables for tests of schedulers say.

    Raises:
        StartupError: a value is no number of requests.
    """
    names = ("TRITONSERVER_DELAY_SCHEDULER", "TRITONSERVER_BACKLOG_DELAY_SCHEDULER")
    return Holds(*(_number(environment, name, "requests") for name in names))


def grpc_delays(environment: Mapping[str, str]) -> Delays:
    """What Triton's variables for tests of gRPC clients say.

    Raises:
        StartupError: a value is no number.
    """
    process_ms = _number(environment, "TRITONSERVER_DELAY_GRPC_PROCESS", "milliseconds")
    response_ms = _number(environment, "TRITONSERVER_DELAY_GRPC_RESPONSE", "milliseconds")
    complete_ms = _number(environment, "TRITONSERVER_DELAY_GRPC_COMPLETE", "milliseconds")
    other_s = _number(environment, "TRITONSERVER_SERVER_DELAY_GRPC_RESPONSE_SEC", "seconds")
    return Delays(process_ms / 1000, response_ms / 1000, complete_ms / 1000, other_s)


def _number(environment: Mapping[str, str], name: str, unit: str) -> int:
    text = environment.get(name, "0")
    if not text.isdecimal():
        raise StartupError(f"{name} expects a number of {unit}, got '{text}'")
    return int(text)
