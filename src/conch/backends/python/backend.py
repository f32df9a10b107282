"""The Python backend itself: completes configurations and loads instances."""

from __future__ import annotations

import asyncio
import json
import weakref
from pathlib import Path

from conch.backend_api import Instance, InstanceSpec, ModelSource
from conch.backends.python.environment import Launch, plan_launch
from conch.backends.python.instance import PythonInstance
from conch.backends.python.process import StubProcess
from conch.backends.python.settings import check_parameters, read_timeouts
from conch.backends.python.stub.conch_stub import protocol
from conch.config import pbtxt
from conch.config.complete import merge_auto_complete
from conch.config.json_format import to_json
from conch.config.schema import ModelConfig

#: How long a process that completed a configuration waits to become the model's first instance.
_SPARE_S = 30.0


class PythonBackend:
    """Runs models written in Python, each instance in a child process.

    Completing a configuration means importing the model's file, which can take seconds. The process that did it is kept
    and becomes the first instance.

    Args:
        runtime: the file of a Python-based backend: its class runs all models of that backend, which bring files that
            it reads but no code of their own.
    """

    def __init__(self, runtime: Path | None = None) -> None:
        self.runtime = runtime
        self._spares: dict[tuple[str, int], StubProcess] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._instances: dict[tuple[Path, int], weakref.WeakSet[PythonInstance]] = {}

    async def complete_config(self, source: ModelSource, config: ModelConfig) -> ModelConfig:
        """The configuration as the model's `auto_complete_config` leaves it."""
        timeouts = read_timeouts(source.settings, config)
        if self.runtime is not None:
            config = _with_runtime(config, self.runtime.name)
        process = StubProcess(await plan_launch(source, config, self.runtime), source.name)
        message = (protocol.COMPLETE, to_json(config.message))
        try:
            answer = await process.request(message, timeouts.initialize_s, "auto_complete_config()")
            result = config
            if answer is not None:
                result = pbtxt.from_message(merge_auto_complete(config.message, json.loads(answer)))
        except BaseException:
            process.kill()
            await process.close(0)
            raise
        self._keep(source, process)
        return result

    async def load(self, spec: InstanceSpec) -> Instance:
        """Start a process (or take the one that completed the configuration) and initialize the model in it."""
        check_parameters(spec.config)
        timeouts = read_timeouts(spec.source.settings, spec.config)
        launch = await plan_launch(spec.source, spec.config, self.runtime)
        instance = PythonInstance(spec, launch, timeouts)
        process = self._take(spec.source, launch) or StubProcess(launch, spec.source.name)
        await instance.start(process)
        version = (spec.source.directory, spec.source.version)
        self._instances.setdefault(version, weakref.WeakSet()).add(instance)
        return instance

    async def is_ready(self, directory: Path, version: int) -> bool:
        """Whether all instances of that version of a model say so."""
        instances = [each for each in self._instances.get((directory, version), ()) if not each.closed]
        return all(await asyncio.gather(*(instance.is_ready() for instance in instances)))

    async def close(self) -> None:
        """End processes that were kept for an instance that never came."""
        spares, self._spares = self._spares, {}
        for process in spares.values():
            self._end(process)
        await asyncio.gather(*self._endings)

    def _keep(self, source: ModelSource, process: StubProcess) -> None:
        key = (source.name, source.version)
        former = self._spares.pop(key, None)
        if former is not None:
            self._end(former)
        self._spares[key] = process
        asyncio.get_running_loop().call_later(_SPARE_S, self._expire, key, process)

    def _take(self, source: ModelSource, launch: Launch) -> StubProcess | None:
        """The spare process of that version, if it was started as the instance has to be."""
        process = self._spares.pop((source.name, source.version), None)
        if process is None:
            return None
        if process.launch == launch and process.alive:
            return process
        self._end(process)
        return None

    def _expire(self, key: tuple[str, int], process: StubProcess) -> None:
        if self._spares.get(key) is process:
            del self._spares[key]
            self._end(process)

    def _end(self, process: StubProcess) -> None:
        task = asyncio.get_running_loop().create_task(process.close(0))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)


def _with_runtime(config: ModelConfig, runtime: str) -> ModelConfig:
    """The configuration with what Triton puts into it for a Python-based backend."""
    message = type(config.message)()
    message.CopyFrom(config.message)
    message.runtime = runtime
    return pbtxt.from_message(message)
