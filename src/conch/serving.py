"""`conch serve` as a process: what starts in which order, what a signal ends, and the exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping

from conch import __version__
from conch.app import StartupError, build_server, grpc_delays, open_repositories
from conch.backends.python.received import ReceiveMemory
from conch.config.serve_options import ServeOptions
from conch.core import log_settings
from conch.core.api import LogSettings
from conch.core.log_settings import LogControl
from conch.core.server import InferenceServer
from conch.core.time_slice import shorten_time_slice
from conch.errors import ConchError
from conch.listeners import Listener, build_listeners, vertex_obstacle
from conch.process import keep_freed_memory, new_event_loop, raise_open_file_limit, tune_garbage_collector
from conch.wire.gpus import open_gpus

logger = logging.getLogger("conch.serving")


def serve(options: ServeOptions) -> int:
    """Run the server until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a graceful stop, 1 when the server could not start.
    """
    try:
        logs = _install_logs(options)
        raise_open_file_limit()
        keep_freed_memory()
        shorten_time_slice()
        try:
            with asyncio.Runner(loop_factory=new_event_loop()) as runner:
                return runner.run(_Application(options, logs).run())
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except StartupError as error:
        print(f"error: creating server: {error}", file=sys.stderr)
        return 1


def _install_logs(options: ServeOptions) -> LogControl:
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
            # The loop gives its signals back to the system: one more SIGTERM would end a stop that went well with -15.
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))

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
                tune_garbage_collector()
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
