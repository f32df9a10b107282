"""The models that ensembles use: which they are, whether they are there, and which load along with an ensemble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from conch.config.proto import ModelConfigMessage
from conch.config.schema import ModelConfig
from conch.core.catalog import Entry
from conch.core.ensemble import FindConfig, Missing, models_of
from conch.core.loading import Loader
from conch.core.model import Model
from conch.core.model_registry import ModelRegistry
from conch.core.namespaces import identifier
from conch.errors import ConchError


class Steps:
    """Answers about the steps of ensembles. Models go by their identifiers, steps by the names that they have in
    configurations."""

    def __init__(self, models: ModelRegistry, loader: Loader) -> None:
        self._models = models
        self._loader = loader

    def uses(self, namespace: str, names: Iterable[str]) -> frozenset[str]:
        """The models that concern an ensemble of that namespace with steps of these names."""
        return self._models.namespaces.steps(namespace, names, self._models.catalog.namespaces)

    def config_finder(self, namespace: str) -> FindConfig:
        """What finds the configurations of the steps of an ensemble of that namespace."""

        def find(name: str, version: str) -> ModelConfig | Missing:
            step = self._models.namespaces.step(namespace, name)
            return Missing() if step is None else self._config(identifier(*step), version)

        return find

    def _config(self, model: str, version: str) -> ModelConfig | Missing:
        """The configuration of a step's model, or why there is none, in Triton's words."""
        if self._models.table.ready(model):
            try:
                return self._models.table.find(model, version).config
            except ConchError:
                return Missing(f"whose required version {version} is not loaded.")
        waits = self._models.dependencies.waiting.get(model)
        if waits is not None:
            return Missing(f"which is not valid. Model '{model}' failed with error: {waits}")
        failure = self._models.table.failure(model)
        if failure:
            return Missing(f"which has no loaded version. Model '{model}' loading failed with error: {failure}")
        return Missing()

    def of(self, namespace: str, config: ModelConfig) -> Mapping[str, str]:
        """The models that the steps of an ensemble use now: name -> identifier; empty for every other model."""
        return {
            name: identifier(*(self._models.namespaces.step(namespace, name) or (namespace, name)))
            for name in models_of(config)
        }

    def find(self, model: str, version: str) -> Model:
        """The model of a step: a ready one, or one that is about to leave after the ensembles that use it.

        Raises:
            ConchError: there is none, in Triton's words.
        """
        try:
            return self._models.table.find(model, version)
        except ConchError:
            leaving = self._models.retirement.find(model, version)
            if leaving is None:
                raise
            return leaving

    def tell_namespaces(self, namespace: str, message: ModelConfigMessage) -> None:
        """Write into the configuration of an ensemble whose models its steps use, as Triton does with namespacing."""
        if self._models.namespaces.enabled:
            for step in message.ensemble_scheduling.step:
                found = self._models.namespaces.step(namespace, step.model_name)
                step.model_namespace = found[0] if found is not None else ""

    async def names(self, entry: Entry | None, override: str | None = None) -> frozenset[str]:
        """The steps of a model of the repositories, by name; none for one that is no ensemble, or cannot be read."""
        if entry is None or entry.problem:
            return frozenset()
        try:
            snapshot = await entry.repository.fetch(entry.name)
        except (ConchError, OSError):  # loading it says so
            return frozenset()
        try:
            return await asyncio.to_thread(self._loader.steps, entry.name, snapshot.directory, override)
        finally:
            if snapshot.lease is not None:
                snapshot.lease.cleanup()

    async def with_steps(
        self, models: Iterable[str], along: Callable[[Iterable[str]], Sequence[str]]
    ) -> Mapping[str, frozenset[str]]:
        """These models and those they use, however indirectly -> the models each uses itself.

        Args:
            along: which models of these names are to be loaded with the ensembles that use them.
        """
        steps: dict[str, frozenset[str]] = {}
        namespaces: dict[str, str] = {}
        wave = list(models)
        while wave:
            entries = self._models.catalog.entries()
            for model in wave:
                entry = entries.get(model)
                namespaces[model] = entry.namespace if entry is not None else ""
                self._models.namespaces.add(namespaces[model], entry.name if entry is not None else model)
            found = await asyncio.gather(*(self.names(entries.get(model)) for model in wave))
            steps.update(zip(wave, found, strict=True))
            wave = [each for each in along(frozenset().union(*found)) if each not in steps]
        needs = {model: self.uses(namespaces[model], names) for model, names in steps.items()}
        for model, used in needs.items():
            if not self._models.table.ready(model):
                self._models.dependencies.set(model, used)
        return needs
