"""From a directory to models that serve: read and complete the configuration, choose versions, load instances."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from conch.backend_api import Backend, Instance, InstanceSpec, MetricSink, ModelSource, OtherModels
from conch.config import complete, pbtxt, validate, versions
from conch.config.metrics_options import MetricsOptions
from conch.config.proto import ModelConfigMessage
from conch.config.rate_limits import ResourceKey
from conch.config.schema import ModelConfig
from conch.config.sequences import with_sequence_tensors
from conch.core import ensemble, ensemble_steps
from conch.core.batch_hold import NO_HOLDS, Holds
from conch.core.cache import ModelCache, ResponseCache
from conch.core.clock import Clock
from conch.core.decoupled_ensemble import DecoupledEnsembleScheduler
from conch.core.ensemble import FindConfig
from conch.core.ensemble_scheduler import EnsembleScheduler
from conch.core.ensemble_steps import FindModel
from conch.core.instance_set import InstanceSet, match
from conch.core.latencies import make_stats
from conch.core.model import Model
from conch.core.rate_limiter import RateLimiter
from conch.core.scheduler import Scheduler
from conch.core.scheduling import MakeScheduling, Respond, Scheduling
from conch.core.sequence_states import SequenceStates
from conch.core.sequence_strategies import sequence_scheduler
from conch.core.stats import ModelStats
from conch.core.warmup import Sample, read_samples, warm_up
from conch.errors import ConchError, InternalError, InvalidArgumentError

logger = logging.getLogger("conch.core.loading")


class LoadOptions(msgspec.Struct, frozen=True):
    """What the command line says about loading.

    Attributes:
        auto_complete: whether configurations are completed from the model itself, and may be missing.
        config_name: which `configs/<name>.pbtxt` to prefer over config.pbtxt; "" for none.
        backend_settings: backend name -> its `--backend-config` settings; those under "" hold for every backend.
        gpu_count: GPUs that KIND_GPU and KIND_AUTO may use.
        retry_count: how often a failed instance load is tried again.
        rate_limits: the resources of the rate limiter, by name and device; None where instances run whenever they are
            free.
        holds: how many requests schedulers wait for before their first batch, for tests of schedulers.
        metrics: what is kept of latencies beyond counters.
    """

    auto_complete: bool = True
    config_name: str = ""
    backend_settings: Mapping[str, Mapping[str, str]] = {}
    gpu_count: int = 0
    retry_count: int = 0
    rate_limits: Mapping[ResourceKey, int] | None = None
    holds: Holds = NO_HOLDS
    metrics: MetricsOptions = MetricsOptions()


class LoadPlan(msgspec.Struct, frozen=True):
    """A complete, valid configuration and the versions its policy selects.

    Attributes:
        namespace: of the model; "" for none.
        steps: the models that the steps of an ensemble use: name -> identifier.
    """

    config: ModelConfig
    directory: Path
    versions: Sequence[int]
    namespace: str = ""
    steps: Mapping[str, str] = {}


class Loader:
    """Makes `Model`s. Holds no state between calls but the backends it was given.

    Args:
        find_backend: backend name -> backend; raises ConchError for one that is not installed.
        cache: where models that ask for it keep their responses; None for nowhere.
        models: what models ask for other models; None for nobody.
    """

    def __init__(
        self,
        find_backend: Callable[[str], Backend],
        options: LoadOptions,
        metrics: MetricSink,
        clock: Clock,
        cache: ResponseCache | None = None,
        models: OtherModels | None = None,
    ) -> None:
        self._models = models
        self._find_backend = find_backend
        self._options = options
        self._metrics = metrics
        self._clock = clock
        self._cache = cache
        self._limiter = RateLimiter(options.rate_limits) if options.rate_limits is not None else None

    def read(self, name: str, directory: Path, override: str | None) -> ModelConfigMessage:
        """The configuration of a model (`override`: JSON that replaces config.pbtxt), as complete as its files make it.

        Raises:
            ConchError: it cannot be read, or contradicts itself; the text names file and field.
        """
        options = self._options
        if override is None:
            message = complete.load_config(directory, options.config_name, options.auto_complete)
        else:
            message = pbtxt.parse_json(override)
        if directory.name != name:  # it goes by another name than its directory: `RenamedRepository`
            message.name = name
        message = complete.normalize(message, directory, options.gpu_count)
        if message.name != name:
            raise InvalidArgumentError(
                f"unexpected directory name '{name}' for model '{message.name}', directory name must equal model name"
            )
        validate.check_scheduling(message)
        return message

    def steps(self, name: str, directory: Path, override: str | None) -> frozenset[str]:
        """The models that an ensemble uses; none for another model, or for a configuration that cannot be read."""
        try:
            return ensemble.models_of(pbtxt.from_message(self.read(name, directory, override)))
        except (ConchError, OSError):
            return frozenset()

    def ensemble(self, message: ModelConfigMessage) -> ModelConfig | None:
        """The configuration of an ensemble; None for another model."""
        return pbtxt.from_message(message) if message.HasField("ensemble_scheduling") else None

    def check_graph(self, message: ModelConfigMessage, find: FindConfig) -> None:
        """Check an ensemble as far as no other model can change it; the error lists what does not fit to those, too.

        Raises:
            InvalidArgumentError: its configuration is broken, or its steps do not make a graph.
        """
        config = self.ensemble(message)
        problems = ensemble.graph_problems(config) if config is not None else []
        if config is not None and problems:
            raise ensemble.listed(config, problems + ensemble.step_problems(config, find))

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
        if self._options.auto_complete and config.ensemble_scheduling is None:
            backend = self._find_backend(config.backend)
            config = await backend.complete_config(self._source(config, max(selected), directory), config)
        validate.validate(config)
        return LoadPlan(config, directory, selected)

    async def load(self, plan: LoadPlan, version: int, find: FindModel) -> Model:
        """Load all instances of one version, in parallel; an ensemble has none, it finds the models of its steps.

        Raises:
            ConchError: an instance failed; those that had loaded are closed again.
        """
        started = time.monotonic()
        config = plan.config
        if config.ensemble_scheduling is not None:
            steps = ensemble.decoupled_steps(config, lambda name, version: find(name, version).config)
            pipeline = ensemble.with_transaction_policy(config, bool(steps))
            stats = make_stats(pipeline, self._options.metrics, self._clock)

            def make_ensemble(stats: ModelStats, respond: Respond) -> Scheduling:
                if steps:
                    return DecoupledEnsembleScheduler(pipeline, stats, respond, find, self._clock, steps)
                return EnsembleScheduler(pipeline, stats, respond, find, self._clock)

            plan = msgspec.structs.replace(plan, config=pipeline)
            model = await self._model(plan, version, make_ensemble, stats, started)
            model.other_label = partial(ensemble_steps.label, ensemble.EnsembleGraph(config), find)
            return model
        stats = make_stats(config, self._options.metrics, self._clock)
        states = await asyncio.to_thread(SequenceStates, config, plan.directory)
        places = complete.resolve_instances(config, self._options.gpu_count)
        placed = await self._load_instances(plan, version, places, stats)
        instances = [(place.name, instance) for place, instance in placed]
        direct: list[Scheduler] = []

        def make_scheduler(stats: ModelStats, respond: Respond) -> Scheduling:
            if config.sequence_batching is not None:
                return sequence_scheduler(config, instances, states, stats, respond, self._clock, self._options.holds)
            direct.append(Scheduler(config, instances, stats, respond, self._clock, self._options.holds))
            return direct[0]

        try:
            model = await self._model(plan, version, make_scheduler, stats, started)
            model.instances = InstanceSet(direct[0], placed) if direct else None
            return model
        except BaseException as error:
            await asyncio.gather(*(instance.close() for _, instance in instances))
            if isinstance(error, Exception) and not isinstance(error, ConchError):
                raise _unexpected(config.name, version, error) from error
            raise

    async def _model(
        self, plan: LoadPlan, version: int, make_scheduling: MakeScheduling, stats: ModelStats, started: float
    ) -> Model:
        config = plan.config
        cache = await self._model_cache(config, version, plan.directory)
        uses = frozenset(plan.steps.values())
        model = Model(config, version, plan.directory, make_scheduling, self._clock, stats, cache, plan.namespace, uses)
        model.check_labels()
        stats.load_duration_s = time.monotonic() - started
        return model

    async def update(self, models: Sequence[Model], plan: LoadPlan) -> None:
        """Start and end instances of versions that serve, whose configuration differs in nothing else.

        Raises:
            ConchError: an instance failed; everything is as it was.
        """
        places = complete.resolve_instances(plan.config, self._options.gpu_count)
        sets = [model.instances for model in models if model.instances is not None]
        matches = [match(each.placed, places) for each in sets]
        loads = await asyncio.gather(
            *(
                self._load_instances(plan, model.version, missing, model.stats)
                for model, (_, missing) in zip(models, matches, strict=True)
            ),
            return_exceptions=True,
        )
        failures = [outcome for outcome in loads if isinstance(outcome, BaseException)]
        loaded = [outcome for outcome in loads if not isinstance(outcome, BaseException)]
        if failures:
            await asyncio.gather(*(instance.close() for placed in loaded for _, instance in placed))
            raise failures[0]
        for model, instances, (kept, _), new in zip(models, sets, matches, loaded, strict=True):
            fresh = iter([instance for _, instance in new])
            placed = [(place, stays or next(fresh)) for place, stays in zip(places, kept, strict=True)]
            model.config = plan.config
            await instances.replace(placed)

    async def _load_instances(
        self, plan: LoadPlan, version: int, places: Sequence[complete.PlacedInstance], stats: ModelStats
    ) -> Sequence[tuple[complete.PlacedInstance, Instance]]:
        config = plan.config
        backend = self._find_backend(config.backend)
        source = self._source(config, version, plan.directory)
        executed = with_sequence_tensors(config)
        specs = [
            InstanceSpec(source, executed, placed.name, placed.kind, placed.device_id, self._metrics, self._models)
            for placed in places
        ]
        samples = await asyncio.to_thread(read_samples, config, plan.directory, version)
        loaded = await asyncio.gather(
            *(self._load_instance(backend, spec, samples, stats) for spec in specs), return_exceptions=True
        )
        instances = [
            (place, instance)
            for place, instance in zip(places, loaded, strict=True)
            if not isinstance(instance, BaseException)
        ]
        failures = [outcome for outcome in loaded if isinstance(outcome, BaseException)]
        if failures:
            await asyncio.gather(*(instance.close() for _, instance in instances))
            if isinstance(failures[0], Exception) and not isinstance(failures[0], ConchError):
                raise _unexpected(config.name, version, failures[0]) from failures[0]
            raise failures[0]
        return await self._rate_limited(instances)

    async def _rate_limited(
        self, instances: Sequence[tuple[complete.PlacedInstance, Instance]]
    ) -> Sequence[tuple[complete.PlacedInstance, Instance]]:
        limiter = self._limiter
        if limiter is None:
            return instances
        try:
            return [
                (place, limiter.limit(instance, place.rate_limit, place.device_id)) for place, instance in instances
            ]
        except ConchError:
            await asyncio.gather(*(instance.close() for _, instance in instances))
            raise

    async def _model_cache(self, config: ModelConfig, version: int, directory: Path) -> ModelCache | None:
        if self._cache is None or not config.response_cache:
            return None
        return ModelCache(self._cache, await asyncio.to_thread(self._cache.namespace, config, version, directory))

    async def _load_instance(
        self, backend: Backend, spec: InstanceSpec, samples: Sequence[Sample], stats: ModelStats
    ) -> Instance:
        for attempt in range(self._options.retry_count):
            try:
                return await self._warm_instance(backend, spec, samples, stats)
            except ConchError as error:
                logger.warning("load of %s failed (attempt %d): %s", spec.name, attempt + 1, error)
        return await self._warm_instance(backend, spec, samples, stats)

    async def _warm_instance(
        self, backend: Backend, spec: InstanceSpec, samples: Sequence[Sample], stats: ModelStats
    ) -> Instance:
        instance = await backend.load(spec)
        try:
            await warm_up(instance, spec.name, samples, stats, self._clock)
        except BaseException:
            await instance.close()
            raise
        return instance

    def _source(self, config: ModelConfig, version: int, directory: Path) -> ModelSource:
        given = self._options.backend_settings
        settings = {**given.get("", {}), **given.get(config.backend, {})}
        return ModelSource(config.name, version, directory, settings)


def _unexpected(name: str, version: int, error: Exception) -> InternalError:
    logger.error("loading %s version %d failed unexpectedly", name, version, exc_info=error)
    return InternalError(f"loading failed: {error}")
