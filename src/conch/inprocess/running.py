"""A server on an event loop of its own: core and listeners, started and stopped from another thread."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence

from conch import app
from conch.backend_api import Backend
from conch.backends.python.received import ReceiveMemory
from conch.backends.registry import BackendRegistry
from conch.config.serve_options import ServeOptions
from conch.core.api import LogSettings
from conch.core.log_settings import LogControl
from conch.core.server import InferenceServer
from conch.errors import InternalError, InvalidArgumentError, UnavailableError
from conch.inprocess.event_loop import EventLoopThread
from conch.listeners import Listener, build_listeners
from conch.process import new_event_loop
from conch.serving import load_initial_models
from conch.wire.gpus import open_gpus
from conch.wire.shared_memory import SharedMemoryRegions

logger = logging.getLogger("conch.inprocess")


class RunningServer:
    """Started by construction, with the models of its repositories loaded; `stop` ends it and everything it started.

    Args:
        listen: whether it listens on the ports of the options.
        backends: further backends by name.

    Attributes:
        thread: the loop that `core` lives on.
        core: what answers; to be called on the loop.
        gpus: those that metrics show; None for none.
        regions: the shared memory that attached listeners have in common.

    Raises:
        ConchError: a model does not load (with `exit_on_error`), or a port is taken.
    """

    core: InferenceServer

    def __init__(self, options: ServeOptions, *, listen: bool, backends: Mapping[str, Backend] | None = None) -> None:
        self._options = options
        self._registry = BackendRegistry(backends, app.backend_directory(options))
        self._listeners: Mapping[str, Listener] = {}
        self._attached: list[Listener] = []
        self.gpus = open_gpus(os.environ) if options.allow_gpu_metrics else None
        self.regions = SharedMemoryRegions(allowed=options.allow_client_shm)
        self._poller: asyncio.Task[None] | None = None
        self.thread = EventLoopThread("conch server", new_event_loop())
        try:
            self.thread.run(self._start(listen))
        except BaseException:
            self.stop()
            raise

    def port(self, listener: str) -> int:
        """The port of "HTTPService", "GRPCInferenceService" or "Metrics Service"; 0 where it does not listen."""
        return self._listeners[listener].port if listener in self._listeners else 0

    def attach(self, listener: Listener) -> None:
        """Start a listener, which stops with the server unless it is detached before."""
        self.thread.run(listener.start())
        self._attached.append(listener)

    def detach(self, listener: Listener) -> None:
        """Stop a listener once it has answered what it accepted; nothing happens to one that is stopped."""
        if listener in self._attached:
            self._attached.remove(listener)
            self.thread.run(self._end([listener]))

    def stop(self) -> bool:
        """Answer what is in flight for at most `exit_timeout_secs`, finalize the models, free ports and threads.

        Returns:
            Whether everything in flight was answered.
        """
        try:
            return self.thread.run(self._stop())
        finally:
            self.thread.stop()

    async def _start(self, listen: bool) -> None:
        options = self._options
        try:
            repositories = app.open_repositories(options, os.environ)
        except app.StartupError as error:
            raise InvalidArgumentError(str(error)) from error
        # The program that embeds the server owns the configuration of `logging`; the logger is "conch".
        logs = LogControl(LogSettings("", True, True, True, options.log_verbose, options.log_format))
        self.core = app.build_server(options, logs, repositories, self._registry)
        if listen:
            self._listeners = build_listeners(self.core, options, gpus=self.gpus, allocate=ReceiveMemory().allocate)
        for listener in self._listeners.values():
            await listener.start()
        try:
            await load_initial_models(self.core, options)
        except app.StartupError as error:
            raise UnavailableError(str(error)) from error
        if options.exit_on_error and not self.core.lifecycle.all_ready():
            raise InternalError(f"failed to load all models: {_failures(self.core)}")
        self.core.mark_started()
        if options.model_control_mode == "poll":
            self._poller = asyncio.create_task(self.core.lifecycle.poll(options.repository_poll_secs))

    async def _end(self, listeners: Sequence[Listener]) -> None:
        timeout_s = self._options.exit_timeout_secs
        await asyncio.gather(*(listener.drain(timeout_s) for listener in listeners))
        await asyncio.gather(*(listener.close() for listener in listeners))

    async def _stop(self) -> bool:
        drained = True
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
        if hasattr(self, "core"):
            listeners = [*self._listeners.values(), *self._attached]
            self._attached.clear()
            drained, _ = await asyncio.gather(self.core.stop(self._options.exit_timeout_secs), self._end(listeners))
        await self._registry.close()
        return drained


def _failures(server: InferenceServer) -> str:
    reasons = dict(server.lifecycle.unreadable())
    for name, versions in server.lifecycle.states().items():
        for state in versions.values():
            if state.reason:
                reasons[name] = state.reason
    return "; ".join(f"'{name}': {reason}" for name, reason in sorted(reasons.items()))
