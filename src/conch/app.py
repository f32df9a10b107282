"""The composition root: the only place that knows every concrete class; signals, start-up and shutdown order."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from conch import __version__
from conch.backend_api import ReadinessBackend
from conch.backends.python.received import ReceiveMemory
from conch.backends.registry import BackendRegistry
from conch.config.cache_options import CacheOptions, LocalCacheOptions
from conch.config.serve_options import ServeOptions
from conch.config.trace_options import TraceOptions
from conch.core.api import LogSettings, ServerMetadata
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
from conch.core.time_slice import shorten_time_slice
from conch.core.trace_file import TraceFiles
from conch.core.trace_otlp import OtlpSink
from conch.core.tracing import Tracing
from conch.errors import ConchError
from conch.inference import InferRequest, InferResponse, Parameter
from conch.listeners import Listener, build_listeners, vertex_obstacle
from conch.repositories.opening import open_repository
from conch.tensor import Tensor
from conch.wire.gpus import open_gpus
from conch.wire.grpc.delays import Delays
from conch.wire.responses import Responses

logger = logging.getLogger("conch.app")

InferModel = Callable[[str, Mapping[str, np.ndarray], Mapping[str, Parameter]], Awaitable[dict[str, np.ndarray]]]


class StartupError(Exception):
    """The server cannot start; the text says why and what to do."""


def serve(options: ServeOptions) -> int:
    """Run the server until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a graceful stop, 1 when the server could not start.
    """
    try:
        logs = _install_logs(options)
        _keep_freed_memory()
        shorten_time_slice()
        with asyncio.Runner(loop_factory=new_event_loop()) as runner:
            return runner.run(_Application(options, logs).run())
    except StartupError as error:
        print(f"error: creating server: {error}", file=sys.stderr)
        return 1


def new_event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop; None for asyncio's own."""
    try:
        import uvloop
    except ImportError:  # not built for every platform; the standard loop serves, more slowly
        return None
    return uvloop.new_event_loop


def _install_logs(options: ServeOptions) -> LogControl:
    from conch.core import log_settings

    settings = LogSettings(
        log_file=options.log_file,
        log_info=options.log_info,
        log_warning=options.log_warning,
        log_error=options.log_error,
        log_verbose_level=options.log_verbose,
        log_format=options.log_format,
    )
    try:
        return log_settings.install(settings)
    except OSError as error:
        raise StartupError(f"cannot open --log-file {options.log_file}: {error}") from error


class _Application:
    """One running server: core, listeners and signals."""

    def __init__(self, options: ServeOptions, logs: LogControl) -> None:
        self._options = options
        self._logs = logs
        self._stop = asyncio.Event()

    async def run(self) -> int:
        options = self._options
        server = build_server(options, self._logs, open_repositories(options, os.environ))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            gpus = open_gpus(os.environ) if options.allow_gpu_metrics else None
            listeners = build_listeners(server, options, grpc_delays(os.environ), gpus, ReceiveMemory().allocate)
        except ConchError as error:
            raise StartupError(error.message) from error
        try:
            return await self._run(server, listeners)
        finally:
            await asyncio.gather(*(listener.close() for listener in listeners.values()))

    async def _run(self, server: InferenceServer, listeners: Mapping[str, Listener]) -> int:
        options = self._options
        for name, listener in listeners.items():
            try:
                await listener.start()
            except ConchError as error:
                raise StartupError(error.message) from error
            logger.info("Started %s on port %d", name, listener.port)
        loading = asyncio.create_task(load_initial_models(server, options))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        poller: asyncio.Task[None] | None = None
        code = 0
        if loading.done():
            loading.result()
            print(model_table(server), file=sys.stderr, flush=True)
            if options.exit_on_error and not server.lifecycle.all_ready():
                print("error: creating server: Internal - failed to load all models", file=sys.stderr)
                code = 1
            elif options.allow_vertex_ai and (obstacle := vertex_obstacle(server, options)):
                print(f"error: failed to start Vertex AI service: {obstacle}", file=sys.stderr)
                code = 1
            else:
                server.mark_started()
                _tune_garbage_collector()
                logger.info("conch %s is ready (process %d)", __version__, os.getpid())
                if options.model_control_mode == "poll":
                    poller = asyncio.create_task(server.lifecycle.poll(options.repository_poll_secs))
                await stopping
        for task in (loading, stopping, poller):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(t for t in (loading, stopping, poller) if t is not None), return_exceptions=True)
        await self._shut_down(server, listeners)
        return code

    async def _shut_down(self, server: InferenceServer, listeners: Mapping[str, Listener]) -> None:
        timeout_s = self._options.exit_timeout_secs
        await asyncio.gather(server.stop(timeout_s), *(listener.drain(timeout_s) for listener in listeners.values()))

    def _on_signal(self, number: signal.Signals) -> None:
        if number is signal.SIGINT and self._stop.is_set():
            logger.error("interrupted again: exiting at once")
            os._exit(128 + number)
        logger.info("Signal (%d) received.", number)
        self._stop.set()


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


async def load_initial_models(server: InferenceServer, options: ServeOptions) -> None:
    """Load what is to be loaded at the start; failures are states, not exceptions.

    Raises:
        StartupError: a repository cannot be reached.
    """
    try:
        await server.lifecycle.look()
    except ConchError as error:
        raise StartupError(error.message) from error
    if options.model_control_mode != "explicit" or "*" in options.load_model:
        await server.lifecycle.load_all()
    else:
        await server.lifecycle.load_named(options.load_model)


def model_table(server: InferenceServer) -> str:
    """The models and their states as Triton prints them at start."""
    rows = [("Model", "Version", "Status")]
    for name, versions in sorted(server.lifecycle.states().items()):
        for version, state in sorted(versions.items()):
            rows.append((name, str(version), f"{state.state}: {state.reason}" if state.reason else state.state))
    rows += [(name, "-", f"UNAVAILABLE: {reason}") for name, reason in sorted(server.lifecycle.unreadable().items())]
    rows = [(name, version, status.splitlines()[0]) for name, version, status in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join(["", rule, lines[0], rule, *lines[1:], *([rule] if len(lines) > 1 else [])])


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


def visible_gpu_count() -> int:
    """NVIDIA GPUs that this process may use, read from the driver's own list (no CUDA library is loaded)."""
    drivers = Path("/proc/driver/nvidia/gpus")
    present = len(list(drivers.iterdir())) if drivers.is_dir() else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    chosen = [device for device in visible.split(",") if device.strip() and device.strip() != "-1"]
    return min(present, len(chosen))


#: glibc's `mallopt` parameters, and how much freed memory it may keep instead of returning it to the system.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 128 << 20
_LARGEST_HEAP_BLOCK_BYTES = 32 << 20


def _keep_freed_memory() -> None:
    """Let the C library reuse the memory of large request bodies rather than unmap and fault it in again.

    A 600 KB tensor costs 150 page faults otherwise, which was half of the time of such a request.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc; others have no such knob and other habits
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK_BYTES)


def _tune_garbage_collector() -> None:
    """What start-up made lives for ever: take it out of the collector's sight, and collect less often.

    The serving path makes no reference cycles of its own; the default threshold of 700 allocations would scan many
    times a second for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@asynccontextmanager
async def loaded_models(repository: Path, name: str) -> AsyncIterator[InferModel]:
    """One model of a repository and the models it is made of, loaded in this process without any listener.

    Yields:
        An async callable (model, inputs by name, request parameters) -> outputs by name. Arrays of strings or bytes go
        to and come from BYTES tensors. Outputs of a model that answers any number of times are those of all responses,
        one after another.

    Raises:
        ConchError: the model does not load.
    """
    options = ServeOptions(model_repository=(str(repository),), model_control_mode="explicit")
    logs = LogControl(LogSettings("", True, True, True, 0, "default"))
    server = build_server(options, logs, open_repositories(options, os.environ))
    try:
        await server.lifecycle.load(name)
        server.mark_started()
        yield functools.partial(_infer, server)
    finally:
        await server.stop(timeout_s=options.exit_timeout_secs)


async def _infer(
    server: InferenceServer, name: str, inputs: Mapping[str, np.ndarray], parameters: Mapping[str, Parameter]
) -> dict[str, np.ndarray]:
    config = server.model(name, "").config
    datatypes = {spec.name: spec.data_type for spec in config.input}
    if unknown := set(inputs) - set(datatypes):
        raise ConchError(f"model '{name}' has no input {sorted(unknown)}; it has {sorted(datatypes)}")
    tensors = tuple(Tensor.from_numpy(key, array, datatypes[key]) for key, array in inputs.items())
    answer = server.infer(InferRequest(name, "", tensors, parameters=parameters))
    if config.decoupled:
        return await _all_outputs(answer)
    return {tensor.name: tensor.as_numpy() for tensor in (await answer).outputs}


async def _all_outputs(answer: Awaitable[InferResponse]) -> dict[str, np.ndarray]:
    outputs: dict[str, list[np.ndarray]] = {}
    responses = Responses(answer)
    while (response := await responses.next()) is not None:
        if isinstance(response, ConchError):
            raise response
        for tensor in response.outputs:
            outputs.setdefault(tensor.name, []).append(tensor.as_numpy())
    return {name: np.concatenate(arrays) for name, arrays in outputs.items()}
