"""From a directory to models that serve: read and complete the configuration, choose versions, load instances."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from conch.backend_api import Backend, Instance, InstanceSpec, MetricSink, ModelSource
from conch.config import complete, pbtxt, validate, versions
from conch.config.proto import ModelConfigMessage
from conch.config.schema import ModelConfig
from conch.core.clock import Clock
from conch.core.model import Model
from conch.core.stats import ModelStats
from conch.errors import ConchError, InternalError, InvalidArgumentError

logger = logging.getLogger("conch.core.loading")


class LoadOptions(msgspec.Struct, frozen=True):
    """What the command line says about loading.

    Attributes:
        auto_complete: whether configurations are completed from the model itself.
        config_name: which `configs/<name>.pbtxt` to prefer over config.pbtxt; "" for none.
        backend_settings: backend name -> its `--backend-config` settings; those under "" hold for every backend.
        gpu_count: GPUs that KIND_GPU and KIND_AUTO may use.
        retry_count: how often a failed instance load is tried again.
    """

    auto_complete: bool = True
    config_name: str = ""
    backend_settings: Mapping[str, Mapping[str, str]] = {}
    gpu_count: int = 0
    retry_count: int = 0


class LoadPlan(msgspec.Struct, frozen=True):
    """A complete, valid configuration and the versions its policy selects."""

    config: ModelConfig
    directory: Path
    versions: Sequence[int]


class Loader:
    """Makes `Model`s. Holds no state between calls but the backends it was given.

    Args:
        find_backend: backend name -> backend; raises ConchError for one that is not installed.
    """

    def __init__(
        self, find_backend: Callable[[str], Backend], options: LoadOptions, metrics: MetricSink, clock: Clock
    ) -> None:
        self._find_backend = find_backend
        self._options = options
        self._metrics = metrics
        self._clock = clock

    def read(self, name: str, directory: Path, override: str | None) -> ModelConfigMessage:
        """The configuration of a model (`override`: JSON that replaces config.pbtxt), as complete as its files make it.

        Raises:
            ConchError: it cannot be read, or contradicts itself; the text names file and field.
        """
        options = self._options
        if override is None:
            message = complete.load_config(directory, options.config_name)
        else:
            message = pbtxt.parse_json(override)
        message = complete.normalize(message, directory, options.gpu_count)
        if message.name != name:
            raise InvalidArgumentError(
                f"unexpected directory name '{name}' for model '{message.name}', directory name must equal model name"
            )
        validate.check_scheduling(message)
        return message

    def versions(self, message: ModelConfigMessage, directory: Path) -> Sequence[int]:
        """The versions its policy selects.

        Raises:
            InvalidArgumentError: there is none.
        """
        available = versions.available_versions(directory)
        selected = versions.select_versions(pbtxt.version_policy(message), available, message.name)
        if not selected:
            raise InvalidArgumentError(
                f"at least one version must be available under the version policy of model '{message.name}'"
            )
        return selected

    async def plan(self, message: ModelConfigMessage, directory: Path, selected: Sequence[int]) -> LoadPlan:
        """What to load, once the backend has completed the configuration from the model itself.

        Raises:
            ConchError: the configuration is broken or has no backend; the text names the field.
        """
        config = pbtxt.from_message(message)
        if self._options.auto_complete:
            backend = self._find_backend(config.backend)
            config = await backend.complete_config(self._source(config, max(selected), directory), config)
        validate.validate(config)
        return LoadPlan(config, directory, selected)

    async def load(self, plan: LoadPlan, version: int) -> Model:
        """Load all instances of one version, in parallel.

        Raises:
            ConchError: an instance failed; those that had loaded are closed again.
        """
        started = time.monotonic()
        config = plan.config
        backend = self._find_backend(config.backend)
        source = self._source(config, version, plan.directory)
        specs = [
            InstanceSpec(source, config, placed.name, placed.kind, placed.device_id, self._metrics)
            for placed in complete.resolve_instances(config, self._options.gpu_count)
        ]
        loaded = await asyncio.gather(*(self._load_instance(backend, spec) for spec in specs), return_exceptions=True)
        instances = [
            (spec.name, instance)
            for spec, instance in zip(specs, loaded, strict=True)
            if not isinstance(instance, BaseException)
        ]
        failures = [outcome for outcome in loaded if isinstance(outcome, BaseException)]
        stats = ModelStats()
        try:
            if failures:
                raise failures[0]
            model = Model(config, version, plan.directory, instances, self._clock, stats)
            model.check_labels()
        except BaseException as error:
            await asyncio.gather(*(instance.close() for _, instance in instances))
            if isinstance(error, Exception) and not isinstance(error, ConchError):
                logger.error("loading %s version %d failed unexpectedly", config.name, version, exc_info=error)
                raise InternalError(f"loading failed: {error}") from error
            raise
        stats.load_duration_s = time.monotonic() - started
        return model

    async def _load_instance(self, backend: Backend, spec: InstanceSpec) -> Instance:
        for attempt in range(self._options.retry_count):
            try:
                return await backend.load(spec)
            except ConchError as error:
                logger.warning("load of %s failed (attempt %d): %s", spec.name, attempt + 1, error)
        return await backend.load(spec)

    def _source(self, config: ModelConfig, version: int, directory: Path) -> ModelSource:
        given = self._options.backend_settings
        settings = {**given.get("", {}), **given.get(config.backend, {})}
        return ModelSource(config.name, version, directory, settings)
