"""Ensembles, and models of their steps that answer when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from conch.config.schema import EnsembleScheduling, EnsembleStep, ModelConfig, ModelInput, ModelOutput
from conch.core.decoupled_ensemble import DecoupledEnsembleScheduler
from conch.core.ensemble import decoupled_steps
from conch.core.ensemble_scheduler import EnsembleScheduler
from conch.core.model import Model
from conch.core.queue import RequestFuture
from conch.core.scheduling import Respond
from conch.core.stats import ModelStats
from conch.errors import ConchError, NotFoundError
from conch.inference import InferRequest, InferResponse
from conch.tensor import DataType, Tensor
from conch.testing import FakeClock
from tests.unit.core.conftest import make_config


def inputs(*names: str, dims: tuple[int, ...] = (-1,), optional: bool = False) -> tuple[ModelInput, ...]:
    return tuple(ModelInput(name, DataType.FP32, dims, optional=optional) for name in names)


def outputs(*names: str, dims: tuple[int, ...] = (-1,)) -> tuple[ModelOutput, ...]:
    return tuple(ModelOutput(name, DataType.FP32, dims) for name in names)


def step(model: str, takes: dict[str, str], gives: dict[str, str], version: int = -1) -> EnsembleStep:
    """`takes` and `gives`: the model's name of a tensor -> the ensemble's."""
    return EnsembleStep(model, version, takes, gives)


def make_ensemble(
    *steps: EnsembleStep,
    takes: tuple[ModelInput, ...] | None = None,
    gives: tuple[ModelOutput, ...] | None = None,
    max_batch_size: int = 8,
    limit: int = 0,
) -> ModelConfig:
    """An ensemble `pipe` from X to Y, unless said otherwise."""
    config = make_config(
        name="pipe",
        max_batch_size=max_batch_size,
        inputs=inputs("X") if takes is None else takes,
        outputs=outputs("Y") if gives is None else gives,
    )
    return msgspec.structs.replace(
        config,
        platform="ensemble",
        backend="",
        instance_group=(),
        ensemble_scheduling=EnsembleScheduling(steps, limit),
    )


def model_config(
    name: str, takes: str = "X", gives: str = "Y", *, max_batch_size: int = 8, decoupled: bool = False
) -> ModelConfig:
    """A model whose inputs and outputs have these names, separated by blanks."""
    config = make_config(
        name=name, max_batch_size=max_batch_size, inputs=inputs(*takes.split()), outputs=outputs(*gives.split())
    )
    return msgspec.structs.replace(config, decoupled=decoupled)


class FakeStep:
    """The model of a step: keeps the requests it gets; the test answers or fails them, or `at_once` does."""

    def __init__(self, config: ModelConfig, at_once: Callable[[InferRequest], InferResponse] | None = None) -> None:
        self.config = config
        self.healthy = True
        self.refusal: ConchError | None = None
        self.at_once = at_once
        self.requests: list[InferRequest] = []
        self.futures: list[RequestFuture] = []
        self.cancelled = 0

    def infer(self, request: InferRequest) -> RequestFuture:
        """Take a request, or raise `refusal`."""
        if self.refusal is not None:
            raise self.refusal
        future = RequestFuture(loop=asyncio.get_running_loop())
        future.on_cancel = self._on_cancel
        self.requests.append(request)
        self.futures.append(future)
        if self.at_once is not None:
            future.set_result(self.at_once(request))
        return future

    def _on_cancel(self) -> None:
        self.cancelled += 1

    def answer(self, *names: str, number: int = -1, compute: tuple[int, int, int] = (1, 2, 3)) -> None:
        """Answer with outputs of these names (all without any), each holding the data of the first input."""
        request, future = self.requests[number], self.futures[number]
        chosen = names or tuple(spec.name for spec in self.config.output)
        first = request.inputs[0]
        tensors = tuple(Tensor(name, first.datatype, first.shape, first.data) for name in chosen)
        self.settle(future, InferResponse(self.config.name, "1", request.id, tensors), compute)

    def respond(self, *contents: bytes, number: int = -1) -> None:
        """Answer with a response for each of these contents of all outputs; more may follow."""
        future = self.futures[number]
        for content in contents:
            assert future.on_response is not None
            future.on_response(self._response(content, number))

    def respond_with(self, error: ConchError, number: int = -1) -> None:
        """Answer with an error after which more may follow."""
        on_response = self.futures[number].on_response
        assert on_response is not None
        on_response(error)

    def finish(self, content: bytes | None = None, number: int = -1) -> None:
        """Answer for the last time, with nothing but the end where there is no content."""
        response = self._response(content or b"", number)
        if content is None:
            response = msgspec.structs.replace(response, outputs=(), empty=True)
        self.settle(self.futures[number], response, (1, 2, 3))

    def _response(self, content: bytes, number: int) -> InferResponse:
        shape = (1, len(content) // 4)
        tensors = tuple(Tensor(spec.name, DataType.FP32, shape, content) for spec in self.config.output)
        return InferResponse(self.config.name, "1", self.requests[number].id, tensors)

    def fail(self, error: ConchError, number: int = -1) -> None:
        """Let a request end with an error."""
        future = self.futures[number]
        future.set_exception(error)
        if future.on_settled is not None:
            future.on_settled(future)

    @staticmethod
    def settle(future: RequestFuture, response: InferResponse, compute: tuple[int, int, int] = (0, 0, 0)) -> None:
        """Settle a request as schedulers do."""
        future.compute = compute
        future.set_result(response)
        if future.on_settled is not None:
            future.on_settled(future)


class Pipe:
    """An ensemble over fake steps."""

    def __init__(self, config: ModelConfig, *models: FakeStep) -> None:
        self.clock = FakeClock()
        self.steps = {model.config.name: model for model in models}
        self.stats = ModelStats()

        def make_scheduling(stats: ModelStats, respond: Respond) -> EnsembleScheduler | DecoupledEnsembleScheduler:
            steps = decoupled_steps(config, lambda name, version: self.find(name, version).config)
            if steps:
                return DecoupledEnsembleScheduler(config, stats, respond, self.find, self.clock, steps)
            return EnsembleScheduler(config, stats, respond, self.find, self.clock)

        self.model = Model(config, 1, Path("/nowhere"), make_scheduling, self.clock, self.stats)

    def find(self, name: str, version: str) -> FakeStep:
        if name not in self.steps:
            raise NotFoundError(f"Request for unknown model: '{name}' is not found")
        return self.steps[name]

    def infer(self, request: InferRequest) -> RequestFuture:
        return self.model.infer(msgspec.structs.replace(request, model_name="pipe"))
