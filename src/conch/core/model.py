"""One loaded version of a model: checks requests, schedules them, makes responses out of what the backend answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec

from conch.backend_api import Output
from conch.config.schema import ModelConfig
from conch.core.api import ModelMetadata, ModelStatistics, TensorMetadata
from conch.core.cache import ModelCache
from conch.core.cached_scheduler import CachedScheduler
from conch.core.clock import Clock
from conch.core.instance_set import InstanceSet
from conch.core.namespaces import identifier
from conch.core.queue import Pending, RequestFuture
from conch.core.scheduling import MakeScheduling
from conch.core.stats import ModelStats
from conch.core.traced_future import TracedFuture
from conch.core.validation import CheckedRequest, RequestRules, reshape_dims
from conch.errors import InternalError
from conch.inference import InferRequest, InferResponse
from conch.tensor import Tensor
from conch.trace import RequestTrace

logger = logging.getLogger("conch.core.model")


class Model:
    """A version that serves. Created with everything loaded; `close` frees it.

    Args:
        make_scheduling: makes what executes the requests: instances behind a queue, or the steps of an ensemble.
        cache: where it keeps its responses; None for nowhere.
        namespace: the location of its repository where repositories are namespaces.
        uses: the identifiers of the models that the steps of an ensemble use.

    Attributes:
        cached: whether it keeps its responses.
        instances: what may change while it serves; None where nothing may.
        other_label: what knows labels of outputs without a label file here.
    """

    instances: InstanceSet | None = None

    def __init__(
        self,
        config: ModelConfig,
        version: int,
        directory: Path,
        make_scheduling: MakeScheduling,
        clock: Clock,
        stats: ModelStats | None = None,
        cache: ModelCache | None = None,
        namespace: str = "",
        uses: frozenset[str] = frozenset(),
    ) -> None:
        self.config = config
        self.version = version
        self.namespace = namespace
        self.uses = uses
        self.stats = stats or ModelStats()
        self._directory = directory
        self.other_label: Callable[[str, int], str] | None = None
        self._version_text = str(version)
        self._rules = RequestRules(config)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._scheduler = make_scheduling(self.stats, self._respond)
        self.cached = cache is not None
        if cache is not None:
            self._scheduler = CachedScheduler(self._scheduler, cache, config, version, self.stats, clock)
        self._output_reshapes = {
            spec.name: (spec.reshape, spec.dims) for spec in config.output if spec.reshape is not None
        }
        self._output_names = frozenset(spec.name for spec in config.output)

    def infer(self, request: InferRequest) -> RequestFuture:
        """Check and schedule one request.

        Raises:
            InvalidArgumentError: it does not fit the configuration.
            RejectedError, UnavailableError: it cannot be queued.
        """
        checked = self._rules.check(request)
        if request.id and logger.isEnabledFor(logging.DEBUG):
            self._log(checked)
        now_ns = self._clock.monotonic_ns()
        trace = request.trace
        future = RequestFuture(loop=self._loop) if trace is None else self._traced(checked.request, trace, now_ns)
        self._scheduler.submit(
            Pending(
                checked.request,
                future,
                checked.batch_size,
                checked.shape_key,
                now_ns,
                checked.lengths,
            )
        )
        return future

    @property
    def directory(self) -> Path:
        """Where its files lie."""
        return self._directory

    @property
    def identifier(self) -> str:
        """What the server keeps it under."""
        return identifier(self.namespace, self.config.name)

    def _log(self, checked: CheckedRequest) -> None:
        request_id = checked.request.id
        text = "model '%s' version %d: request id '%s', batch size %d"
        details = (self.config.name, self.version, request_id, checked.batch_size)
        logger.debug(text, *details, extra={"request_id": request_id})

    def _traced(self, request: InferRequest, trace: RequestTrace, now_ns: int) -> RequestFuture:
        trace.at("REQUEST_START", now_ns)
        trace.begin(self.config.name, self.version, request.id, request.inputs)
        trace.at("QUEUE_START", now_ns)
        return TracedFuture(self._loop, trace)

    @property
    def healthy(self) -> bool:
        """Whether requests can be executed: an instance is up, or every step of an ensemble is."""
        return self._scheduler.healthy

    @property
    def in_flight(self) -> int:
        """Requests accepted and not yet answered."""
        return self._scheduler.in_flight

    async def drain(self) -> None:
        """Wait until all accepted requests are answered."""
        await self._scheduler.drain()

    async def close(self) -> None:
        """Fail what still waits and free what executes."""
        await self._scheduler.close()

    def label(self, output: str, index: int) -> str:
        """The class label of an index, "" without one."""
        labels = self._labels.get(output)
        if labels is None:
            return "" if self.other_label is None else self.other_label(output, index)
        return labels[index] if index < len(labels) else ""

    @cached_property
    def _labels(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, Sequence[str]] = {}
        for spec in self.config.output:
            if spec.label_filename:
                lines = (self._directory / spec.label_filename).read_text(encoding="utf-8").splitlines()
                found[spec.name] = [line.strip() for line in lines]
        return found

    def check_labels(self) -> None:
        """Read the label files now, so that a missing one fails the load and not a request.

        Raises:
            InternalError: a label file cannot be read.
        """
        try:
            _ = self._labels
        except OSError as error:
            raise InternalError(f"failed to open text file for read {error.filename}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InternalError(f"failed to read the label_filename of model '{self.config.name}': {error}") from error

    def metadata(self, versions: Sequence[int]) -> ModelMetadata:
        """The model as clients see it."""
        batch = (-1,) if self.config.max_batch_size else ()
        return ModelMetadata(
            name=self.config.name,
            versions=tuple(map(str, versions)),
            platform=self.config.platform or self.config.backend,
            inputs=tuple(TensorMetadata(s.name, s.data_type.value, batch + s.dims) for s in self.config.input),
            outputs=tuple(TensorMetadata(s.name, s.data_type.value, batch + s.dims) for s in self.config.output),
        )

    def statistics(self) -> ModelStatistics:
        """What it has done so far."""
        return self.stats.snapshot(self.config.name, self.version)

    def _respond(self, pending: Pending, output: Output) -> InferResponse:
        request = pending.request
        tensors = output.tensors
        asked = request.outputs
        if len(tensors) != 1 or len(asked) != 1 or tensors[0].name != asked[0].name:
            wanted = {output.name for output in asked} if asked else self._output_names
            if len(tensors) != 1 or tensors[0].name not in wanted:
                tensors = tuple([tensor for tensor in tensors if tensor.name in wanted])
        if self._output_reshapes:
            tensors = tuple(map(self._reshaped, tensors))
        return InferResponse(self.config.name, self._version_text, request.id, tensors, output.parameters)

    def _reshaped(self, tensor: Tensor) -> Tensor:
        reshape = self._output_reshapes.get(tensor.name)
        if reshape is None:
            return tensor
        first = 1 if self.config.max_batch_size else 0
        source, target = reshape
        body = tensor.shape[first:]
        if len(body) != len(source) or any(dim not in (-1, size) for dim, size in zip(source, body, strict=True)):
            raise InternalError(
                f"model '{self.config.name}' made output '{tensor.name}' of shape {list(body)}, its reshape expects "
                f"{list(source)}"
            )
        shape = tensor.shape[:first] + reshape_dims(body, source, target)
        return msgspec.structs.replace(tensor, shape=shape)
