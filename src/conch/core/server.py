"""The server as both wires call it: look-ups, statistics, inference, model control. Knows no protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from conch.core.api import LogSettings, ModelIndexEntry, ModelMetadata, ModelStatistics, ServerMetadata
from conch.core.cache import ResponseCache
from conch.core.lifecycle import Lifecycle
from conch.core.log_settings import LogControl
from conch.core.metrics import CustomMetrics
from conch.core.model import Model
from conch.core.model_table import parse_version
from conch.core.queue import RequestFuture
from conch.core.repository import LocalRepository, RenamedRepository, Repository
from conch.core.tracing import Tracing
from conch.errors import ConchError, InvalidArgumentError, NotFoundError, UnavailableError, UnsupportedError
from conch.inference import InferRequest

logger = logging.getLogger("conch.core.server")

#: The extensions of the protocol that this server speaks.
EXTENSIONS = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)


class InferenceServer:
    """The facade over lifecycle and models; implements `conch.core.api.ServerApi`.

    Args:
        control: "none", "poll" or "explicit": who may change which models are loaded.
        strict_readiness: whether one model that is not ready makes the server not ready.
        cache: the response cache of its models, closed with the server; None for none.
        tracing: which requests are traced, closed with the server; None for none.
        ask_readiness: asks a loaded model whether it is ready.
    """

    def __init__(
        self,
        metadata: ServerMetadata,
        lifecycle: Lifecycle,
        metrics: CustomMetrics,
        logs: LogControl,
        *,
        control: str = "none",
        strict_readiness: bool = True,
        cache: ResponseCache | None = None,
        tracing: Tracing | None = None,
        ask_readiness: Callable[[Model], Awaitable[bool]] | None = None,
    ) -> None:
        self._ask_readiness = ask_readiness
        self._metadata = metadata
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._logs = logs
        self._control = control
        self._strict_readiness = strict_readiness
        self._cache = cache
        self.tracing = tracing or Tracing()
        self._started = False
        self._stopping = False

    @property
    def lifecycle(self) -> Lifecycle:
        """The models and their states."""
        return self._lifecycle

    @property
    def custom_metrics(self) -> CustomMetrics:
        """What models report of themselves."""
        return self._metrics

    @property
    def cache(self) -> ResponseCache | None:
        """The response cache of the models."""
        return self._cache

    def mark_started(self) -> None:
        """The start-up models have been tried: readiness may now be answered."""
        self._started = True

    def is_live(self) -> bool:
        """Whether the process answers at all."""
        return True

    def is_ready(self) -> bool:
        """Whether requests will be served."""
        if not self._started or self._stopping:
            return False
        return not self._strict_readiness or self._lifecycle.all_ready()

    def is_model_ready(self, name: str, version: str) -> bool:
        """Whether that version (any for "") can answer."""
        if self._stopping:
            return False
        parse_version(version)
        try:
            return self._lifecycle.find(name, version).healthy
        except ConchError:
            return False

    async def check_model_ready(self, name: str, version: str) -> bool:
        """As `is_model_ready`, with the model's own word."""
        if not self.is_model_ready(name, version):
            return False
        return self._ask_readiness is None or await self._ask_readiness(self._lifecycle.find(name, version))

    def metadata(self) -> ServerMetadata:
        """Name, version, extensions."""
        return self._metadata

    def model(self, name: str, version: str) -> Model:
        """The version a client means."""
        return self._lifecycle.find(name, version)

    def model_metadata(self, name: str, version: str) -> ModelMetadata:
        """Inputs, outputs and ready versions; of one version only when the client named it."""
        model = self._lifecycle.find(name, version)
        return model.metadata([model.version] if version else self._lifecycle.versions(name))

    def models(self) -> Iterable[Model]:
        """Every ready model version."""
        return self._lifecycle.models()

    def statistics(self, name: str, version: str) -> Sequence[ModelStatistics]:
        """Statistics of the versions that match.

        Raises:
            InvalidArgumentError: no such model or version.
        """
        if not name:
            return [model.statistics() for model in self._lifecycle.models()]
        versions = self._lifecycle.versions(name)
        if not versions:
            raise InvalidArgumentError(f"requested model '{name}' is not available")
        if version:
            try:
                return [self._lifecycle.find(name, version).statistics()]
            except ConchError as error:
                raise InvalidArgumentError(f"requested model version is not available for model '{name}'") from error
        return [self._lifecycle.find(name, str(number)).statistics() for number in versions]

    def infer(self, request: InferRequest) -> RequestFuture:
        """Check, schedule and answer one request."""
        if self._stopping:
            raise UnavailableError("Server is stopping, the request was not accepted")
        return self._lifecycle.find(request.model_name, request.model_version).infer(request)

    async def load_model(self, name: str, config: str | None, files: Mapping[str, bytes]) -> None:
        """Load or reload a model for a client."""
        self._require_explicit()
        await self._lifecycle.load(name, config, files)

    async def unload_model(self, name: str, unload_dependents: bool) -> None:
        """Unload a model for a client; with `unload_dependents` also what was loaded only because it uses it."""
        self._require_explicit()
        await self._lifecycle.unload(name, unload_dependents)

    async def register_repository(self, location: str, names: Mapping[str, str]) -> None:
        """Add a directory as model repository."""
        if not await asyncio.to_thread(Path(location).is_dir):
            raise NotFoundError(f"failed to register '{location}', repository not found")
        await self.add_repository(LocalRepository(location), names)

    async def add_repository(self, repository: Repository, names: Mapping[str, str]) -> None:
        """As `register_repository`, for a repository of any kind."""
        self._require_explicit_repositories("registration")
        await self._lifecycle.register(RenamedRepository(repository, names) if names else repository)

    async def unregister_repository(self, location: str) -> None:
        """Forget a model repository; see `Lifecycle.unregister`."""
        self._require_explicit_repositories("unregistration")
        await self._lifecycle.unregister(location)

    async def poll_repositories(self) -> None:
        """Look at the repositories now.

        Raises:
            UnavailableError: they are not polled.
        """
        if self._control != "poll":
            raise UnavailableError("polling is disabled")
        await self._lifecycle.poll_once()

    def _require_explicit_repositories(self, what: str) -> None:
        if self._control != "explicit":
            raise UnsupportedError(f"repository {what} is not allowed if model control mode is not EXPLICIT")

    def _require_explicit(self) -> None:
        if self._control != "explicit":
            raise UnavailableError("explicit model load / unload is not allowed if polling is enabled")

    def repository_index(self, ready: bool) -> Sequence[ModelIndexEntry]:
        """Every model of the repositories."""
        return self._lifecycle.index(ready)

    def log_settings(self) -> LogSettings:
        """The log settings in force."""
        return self._logs.settings

    def update_log_settings(self, changes: Mapping[str, bool | int | str]) -> LogSettings:
        """Change log settings."""
        return self._logs.update(changes)

    async def stop(self, timeout_s: float) -> bool:
        """Accept nothing more, answer what is in flight for at most `timeout_s`, finalize all models.

        Returns:
            Whether everything in flight was answered.
        """
        self._stopping = True
        logger.info("Waiting for in-flight requests to complete.")
        models = list(self._lifecycle.models())
        drained = True
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(model.drain() for model in models))
        except TimeoutError:
            drained = False
            for name, count in self._lifecycle.in_flight().items():
                logger.warning("%s has %d in-flight inferences", name, count)
        logger.info("All models are stopped, unloading models")
        await self._lifecycle.stop()
        if self._cache is not None:
            await self._cache.close()
        await self.tracing.close()
        return drained
