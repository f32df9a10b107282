"""The backend `identity`, with which tests of clients and schedulers try a server: OUTPUTn is INPUTn.

Parameters of a model, as Triton's has them: `execute_delay_ms`, how long an execution takes, and
`instance_wise_delay_multiplier`: that times the number of the instance, where it is more than 1, multiplies the delay.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence

from conch.backend_api import BatchFuture, BatchResult, InstanceSpec, ModelSource, Output
from conch.config.schema import ModelConfig
from conch.errors import ConchError, InvalidArgumentError, UnavailableError
from conch.inference import InferRequest
from conch.tensor import Tensor

_DELAY = "execute_delay_ms"
_MULTIPLIER = "instance_wise_delay_multiplier"
_OUTPUT = re.compile(r"OUTPUT(\d+)")


class IdentityBackend:
    """Needs no process and no engine."""

    async def complete_config(self, source: ModelSource, config: ModelConfig) -> ModelConfig:
        """The configuration as it is: there is no model to complete it from."""
        return config

    async def load(self, spec: InstanceSpec) -> IdentityInstance:
        """An instance.

        Raises:
            InvalidArgumentError: an output has no input of its number and datatype, or a parameter is no number.
        """
        config = spec.config
        datatypes = {each.name: each.data_type for each in config.input}
        for output in config.output:
            number = _OUTPUT.fullmatch(output.name)
            if number is None:
                raise InvalidArgumentError(
                    f"model '{config.name}': outputs of the identity backend are OUTPUT0, OUTPUT1, ..., not "
                    f"'{output.name}'"
                )
            if datatypes.get(f"INPUT{number[1]}") is not output.data_type:
                raise InvalidArgumentError(
                    f"model '{config.name}': output '{output.name}' needs an input 'INPUT{number[1]}' of its datatype "
                    f"{output.data_type.config_name}"
                )
        delay_s = _number(config, _DELAY, 0) / 1000
        instance = int(spec.name.rpartition("_")[2])
        return IdentityInstance(config, delay_s * max(1, instance * _number(config, _MULTIPLIER, 0)))


class IdentityInstance:
    """Hands on what it is given, after a while."""

    def __init__(self, config: ModelConfig, delay_s: float) -> None:
        self._names = [output.name for output in config.output]
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._running: asyncio.Future[BatchResult] | None = None

    def execute(self, requests: Sequence[InferRequest]) -> Awaitable[BatchResult]:
        """Answer with the inputs."""
        future = self._running = BatchFuture(loop=self._loop)
        if self._closed:
            future.fail(UnavailableError("the instance is closed"))
            return future
        started_ns = time.monotonic_ns()

        def answer() -> None:
            if not future.done():
                outputs = [Output(tuple(self._outputs(request)), {}) for request in requests]
                future.succeed(BatchResult(outputs, 0, time.monotonic_ns() - started_ns, 0))

        if self._delay_s:
            self._loop.call_later(self._delay_s, answer)
        else:
            self._loop.call_soon(answer)
        return future

    def _outputs(self, request: InferRequest) -> list[Tensor]:
        wanted = {output.name for output in request.outputs} if request.outputs else set(self._names)
        made = []
        for name in self._names:
            tensor = request.input(name.replace("OUTPUT", "INPUT"))
            if tensor is not None and name in wanted:  # inputs may be optional
                made.append(Tensor(name, tensor.datatype, tensor.shape, tensor.data))
        return made

    def on_idle_death(self, callback: Callable[[ConchError], None]) -> None:
        """Nothing to remember: it cannot die."""

    async def restart(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Take no more, once the execution in hand has ended."""
        self._closed = True
        if self._running is not None:
            await asyncio.wait([self._running])


def _number(config: ModelConfig, parameter: str, default: int) -> int:
    """The value of a parameter.

    Raises:
        InvalidArgumentError: it is no whole number of 0 or more.
    """
    text = config.parameters.get(parameter, str(default))
    if not text.isdecimal():
        raise InvalidArgumentError(
            f"model '{config.name}': parameter '{parameter}' must be a whole number of 0 or more, got '{text}'"
        )
    return int(text)
