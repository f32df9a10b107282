"""Backends that need no engine: they echo, wait to be released, or fail on command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from conch.backend_api import BatchResult, Instance, InstanceSpec, ModelSource, Output
from conch.config.schema import ModelConfig
from conch.errors import BackendError, ConchError, InstanceDiedError
from conch.inference import InferRequest
from conch.tensor import Tensor


class EchoInstance:
    """Answers each request with its inputs, in order, under the names of the model's outputs.

    Attributes:
        batches: what it executed: per batch the requests.
        closed: whether `close` was called.
    """

    def __init__(self, spec: InstanceSpec) -> None:
        self.spec = spec
        self.batches: list[Sequence[InferRequest]] = []
        self.closed = False
        self.restarts = 0

    def answer(self, requests: Sequence[InferRequest]) -> BatchResult:
        """The echo of a batch."""
        names = [output.name for output in self.spec.config.output]
        outputs = [
            Output(
                tuple(
                    Tensor(name, t.datatype, t.shape, t.data) for name, t in zip(names, request.inputs, strict=False)
                ),
                {},
            )
            for request in requests
        ]
        return BatchResult(outputs, 1_000, 2_000, 3_000)

    def execute(self, requests: Sequence[InferRequest]) -> Awaitable[BatchResult]:
        """Answer at once."""
        self.batches.append(requests)
        done: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()
        done.set_result(self.answer(requests))
        return done

    def on_idle_death(self, callback: Callable[[ConchError], None]) -> None:
        """Keep the callback for `die`."""
        self._on_idle_death = callback

    def die(self, error: ConchError) -> None:
        """Die while idle."""
        self._on_idle_death(error)

    async def restart(self) -> None:
        """Count the restart."""
        self.restarts += 1

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


class SlowInstance(EchoInstance):
    """Executes until `release` (or `fail`) is called, one batch after the other."""

    def __init__(self, spec: InstanceSpec) -> None:
        super().__init__(spec)
        self._running: list[tuple[asyncio.Future[BatchResult], Sequence[InferRequest]]] = []

    def execute(self, requests: Sequence[InferRequest]) -> Awaitable[BatchResult]:
        """Start; the test decides when it ends."""
        self.batches.append(requests)
        done: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()
        self._running.append((done, requests))
        return done

    def release(self) -> None:
        """Let the running batch end well."""
        done, requests = self._running.pop(0)
        done.set_result(self.answer(requests))

    def fail(self, error: ConchError) -> None:
        """Let the running batch end with an error."""
        done, _ = self._running.pop(0)
        done.set_exception(error)


class FailingInstance(EchoInstance):
    """Dies at every execution; `restart_failures` restarts fail before one succeeds."""

    restart_failures = 0

    def execute(self, requests: Sequence[InferRequest]) -> Awaitable[BatchResult]:
        """Fail as an instance whose process died."""
        self.batches.append(requests)
        done: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()
        done.set_exception(InstanceDiedError(f"Stub process '{self.spec.name}' is not healthy."))
        return done

    async def restart(self) -> None:
        """Fail as often as told."""
        await super().restart()
        if self.restarts <= self.restart_failures:
            raise BackendError(f"instance '{self.spec.name}' does not start")


class _FakeBackend:
    """Loads instances of one class and remembers them."""

    instance_class: Callable[[InstanceSpec], Instance]

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.load_error: ConchError | None = None

    async def complete_config(self, source: ModelSource, config: ModelConfig) -> ModelConfig:
        """The configuration as it is."""
        return config

    async def load(self, spec: InstanceSpec) -> Instance:
        """Load, or raise `load_error` when the test set one."""
        if self.load_error is not None:
            raise self.load_error
        instance = self.instance_class(spec)
        self.instances.append(instance)
        return instance


class EchoBackend(_FakeBackend):
    """Loads `EchoInstance`s."""

    instance_class = EchoInstance


class SlowBackend(_FakeBackend):
    """Loads `SlowInstance`s."""

    instance_class = SlowInstance


class FailingBackend(_FakeBackend):
    """Loads `FailingInstance`s."""

    instance_class = FailingInstance
