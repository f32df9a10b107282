"""The port every backend implements: complete a configuration, load instances, execute batches, restart, close.

core schedules, backends execute; they meet only here. All methods are called on the server's event loop and must not
block it: work that takes time runs in a child process or a thread and settles an awaitable.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from conch.config.schema import ModelConfig
from conch.errors import ConchError
from conch.inference import InferRequest, InferResponse, Parameter
from conch.tensor import Tensor
from conch.trace import RequestTrace


class ModelSource(msgspec.Struct, frozen=True):
    """Where one version of a model lies.

    Attributes:
        name: the model's name.
        version: its version number.
        directory: the model's directory (the one that holds config.pbtxt and the version directories).
        settings: what `--backend-config` says for this backend (key -> value).
    """

    name: str
    version: int
    directory: Path
    settings: Mapping[str, str]

    @property
    def version_directory(self) -> Path:
        """The directory of this version's own files."""
        return self.directory / str(self.version)


class MetricSink(Protocol):
    """Where custom metrics of models end up: one registry for the whole server, exposed on the metrics port.

    A family is declared once by name (declaring it again with the same kind is fine); a metric is a family plus its
    labels and is shared by everybody who names the same ones.
    """

    def declare(self, name: str, description: str, kind: str) -> None:
        """`kind` is "counter", "gauge" or "histogram". Raises InvalidArgumentError for a clash with another family."""
        ...

    def add(self, name: str, labels: Mapping[str, str], delta: float) -> None:
        """Increment a counter or gauge (a counter refuses negative deltas: InvalidArgumentError)."""
        ...

    def set(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: str, labels: Mapping[str, str], values: Sequence[float], buckets: Sequence[float]) -> None:
        """Record observations in a histogram with those upper bounds; none make it, if it is not there yet."""
        ...

    def value(self, name: str, labels: Mapping[str, str]) -> float:
        """The current value of a counter or gauge."""
        ...


#: Takes an answer of another model; True with its last one.
OnAnswer = Callable[[InferResponse | ConchError, bool], None]


class OtherModels(Protocol):
    """What a model may ask of its server beside metrics: calls of other models, and their loading."""

    def infer(self, request: InferRequest, decoupled: bool, on_answer: OnAnswer) -> Callable[[], object]:
        """Start a request to another model, or to the same one.

        `on_answer` is called until its second argument is True; never before this returns. An error that is not the
        last answer is one response among others.

        Args:
            decoupled: whether the caller is prepared for any number of responses.

        Returns:
            What gives the request up.

        Raises:
            ConchError: it is not accepted; `on_answer` will not be called.
        """
        ...

    async def is_ready(self, name: str, version: str) -> bool:
        """Whether that version (any for "") can answer, and says so itself. Raises ConchError."""
        ...

    async def load(self, name: str, config: str | None, files: Mapping[str, bytes]) -> None:
        """Load or reload a model. Raises ConchError."""
        ...

    async def unload(self, name: str, unload_dependents: bool) -> None:
        """Unload a model. Raises ConchError."""
        ...


class InstanceSpec(msgspec.Struct, frozen=True):
    """One instance to load.

    Attributes:
        source: the model version.
        config: its complete configuration.
        name: Triton's instance name, `MODEL_GROUP_INDEX`, for logs and errors.
        kind: "CPU", "GPU" or "MODEL", after KIND_AUTO was decided.
        device_id: the GPU's index; 0 on CPU.
        metrics: where the model's custom metrics go.
        models: the other models; None where it may not ask for them.
    """

    source: ModelSource
    config: ModelConfig
    name: str
    kind: str
    device_id: int
    metrics: MetricSink
    models: OtherModels | None = None


class Output(msgspec.Struct, frozen=True):
    """What a model answered to one request: every tensor it made, in its own order, and its response parameters."""

    tensors: tuple[Tensor, ...]
    parameters: Mapping[str, Parameter]


class Unanswered(enum.Enum):
    """What becomes of a request that an execution left without an answer.

    Attributes:
        OPEN: its model answers it by itself, through the request's sink.
        RESCHEDULED: it is to be executed again, in a later batch.
    """

    OPEN = enum.auto()
    RESCHEDULED = enum.auto()


class BatchResult(msgspec.Struct, frozen=True):
    """The outcome of one execution.

    Attributes:
        outputs: one entry a request, in the batch's order: its output, the error that request alone ends with, or (of a
            `StreamingInstance`) what is to become of it.
        compute_input_ns: time spent bringing the inputs to the model.
        compute_infer_ns: time the model itself took.
        compute_output_ns: time spent bringing the outputs back.
    """

    outputs: Sequence[Output | ConchError | Unanswered]
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int


class BatchFuture(asyncio.Future[BatchResult]):
    """The future of one execution, for instances whose answers come in callbacks on the event loop.

    Attributes:
        on_settled: the scheduler's; called once it is settled, with a result at once. A done callback would cost every
            batch a turn of the event loop. Must not raise.
    """

    on_settled: Callable[[asyncio.Future[BatchResult]], object] | None = None

    def succeed(self, result: BatchResult) -> None:
        """Settle it with a result."""
        self.set_result(result)
        if self.on_settled is not None:
            self.on_settled(self)

    def fail(self, error: ConchError) -> None:
        """Settle it with an error. The scheduler hears of it in the next turn: an instance may fail amid being closed
        or killed."""
        self.set_exception(error)
        if self.on_settled is not None:
            self.get_loop().call_soon(self.on_settled, self)


class Instance(Protocol):
    """A loaded copy of a model that executes one batch at a time."""

    def execute(self, requests: Sequence[InferRequest]) -> Awaitable[BatchResult]:
        """Run one batch. Never called again before the returned awaitable is settled.

        The work starts at the call, not at the await. The inputs of all requests have the same shapes beyond the
        batch dimension; they are not concatenated.

        Raises (through the awaitable):
            InstanceDiedError: the instance is gone and with it this batch; `restart` before the next execute.
            ConchError: the whole batch failed, the instance lives.
        """
        ...

    def on_idle_death(self, callback: Callable[[ConchError], None]) -> None:
        """Have `callback` called whenever the instance dies while it executes nothing, also after a restart.

        It is called soon after this call where the instance has died so already.
        """
        ...

    async def restart(self) -> None:
        """Bring a dead instance back. Raises ConchError when it does not come up; may be tried again later."""
        ...

    async def close(self) -> None:
        """Finalize and free everything. Idempotent; never raises for a model's own failure to finalize (logged)."""
        ...


class ResponseSink(Protocol):
    """Where a model sends the responses to one request by itself."""

    def send(self, outcome: Output | ConchError | None, final: bool) -> None:
        """One response, or None where nothing but the end is said. Ignored after the final one."""
        ...

    def when_taken(self, count: int, callback: Callable[[int], None]) -> None:
        """Call back once at least so many responses are taken by those they go to, with how many are.

        At once where nobody counts them. A model whose request has a `response_window` keeps to it this way.
        """
        ...

    @property
    def trace(self) -> RequestTrace | None:
        """The trace of the request, whose parts are the requests that its model sends for it; None without one."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether the client gave the request up. The model may go on all the same; it still has to end the request."""
        ...


@runtime_checkable
class StreamingInstance(Instance, Protocol):
    """An instance whose model may answer requests by itself: any number of times, also after the execution ended."""

    def execute_into(self, requests: Sequence[InferRequest], sinks: Sequence[ResponseSink]) -> Awaitable[BatchResult]:
        """As `execute`, with a sink for each request.

        Responses may come while the batch is executed, and for requests that are `Unanswered.OPEN` in the result until
        their final one. When the instance dies, every open sink gets an error as its final response. A batch that
        fails as a whole leaves it to the caller to end its requests.
        """
        ...


@runtime_checkable
class ReadinessBackend(Protocol):
    """A backend whose models may say whether they are ready."""

    async def is_ready(self, directory: Path, version: int) -> bool:
        """Whether all instances of that version of the model in that directory say so."""
        ...


class Backend(Protocol):
    """One engine. Constructed once with no arguments; imports its heavy library only when a model is loaded."""

    async def complete_config(self, source: ModelSource, config: ModelConfig) -> ModelConfig:
        """The configuration with what can be read from the model itself filled in (auto-complete).

        Called once a model before any load, unless auto-complete is switched off.

        Raises:
            ConchError: the model's files are broken; the text becomes the reason the model is UNAVAILABLE.
        """
        ...

    async def load(self, spec: InstanceSpec) -> Instance:
        """Load one instance; several are loaded concurrently.

        Raises:
            ConchError: loading failed; the text becomes the reason the model is UNAVAILABLE.
        """
        ...
