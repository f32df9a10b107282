"""Python functions as models: called in threads of this process, with the requests of a batch."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import numpy as np

from conch.backend_api import BatchResult, InstanceSpec, ModelSource, Output, ResponseSink, Unanswered
from conch.backends.own_thread import OwnThread
from conch.config.schema import ModelConfig
from conch.errors import BackendError, ConchError
from conch.inference import InferRequest, Parameter
from conch.tensor import DataType, Tensor

#: The name under which configurations ask for this backend.
NAME = "function"


class Request(Mapping[str, np.ndarray]):
    """A request as a function sees it: its inputs by name (read-only arrays with the batch dimension).

    Attributes:
        parameters: what the client said beside its inputs.
        request_id: the client's own id.
    """

    def __init__(self, request: InferRequest) -> None:
        self._inputs = {tensor.name: tensor.as_numpy() for tensor in request.inputs}
        self.parameters: Mapping[str, Parameter] = request.parameters
        self.request_id = request.id

    def __getitem__(self, name: str) -> np.ndarray:
        return self._inputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)


#: The answer to one request: arrays by output name, or in the order of the outputs, or the error it ends with.
Answer = Mapping[str, object] | Sequence[object] | ConchError

#: A model: the answers to the requests of a batch; of a decoupled model an iterator of such answers.
ModelFunction = Callable[[Sequence[Request]], object]


class FunctionBackend:
    """Serves the functions it was given; `functions` may grow. Several functions of a model are its instances."""

    def __init__(self) -> None:
        self.functions: dict[str, Sequence[ModelFunction]] = {}

    async def complete_config(self, source: ModelSource, config: ModelConfig) -> ModelConfig:
        """The configuration as it is: it was made with the function."""
        return config

    async def load(self, spec: InstanceSpec) -> FunctionInstance:
        """Start a thread for the function of this instance."""
        functions = self.functions.get(spec.source.name)
        if not functions:
            raise BackendError(f"model '{spec.source.name}' has no function: bind one")
        number = int(spec.name.rpartition("_")[2])
        function = functions[number % len(functions)]
        return (DecoupledFunctionInstance if spec.config.decoupled else FunctionInstance)(spec, function)


class FunctionInstance:
    """One function in one thread. It cannot die: what it raises fails its batch."""

    def __init__(self, spec: InstanceSpec, function: ModelFunction) -> None:
        self._name = spec.source.name
        self._outputs = spec.config.output
        self._batching = spec.config.max_batch_size > 0
        self._function = function
        self._thread = OwnThread(f"function of model {self._name}", self._failure)
        self._thread.start()

    def execute(self, requests: Sequence[InferRequest]) -> Awaitable[BatchResult]:
        """Have the thread call the function."""
        return self._thread.submit(lambda: self._run(requests))

    def on_idle_death(self, callback: Callable[[ConchError], None]) -> None:
        """Nothing to remember: a thread that executes nothing cannot die."""

    async def restart(self) -> None:
        """Nothing to do: the thread lives until it is closed."""

    async def close(self) -> None:
        """End the thread once the batch in hand has ended."""
        self._thread.end()
        await self._thread.ended()

    def _failure(self, error: BaseException) -> ConchError:
        return BackendError(f"function of model '{self._name}' failed: {type(error).__name__}: {error}")

    def _run(self, requests: Sequence[InferRequest]) -> BatchResult:
        begin_ns = time.monotonic_ns()
        given = [Request(request) for request in requests]
        started_ns = time.monotonic_ns()
        answers = self._function(given)
        ended_ns = time.monotonic_ns()
        outputs = [
            self._output(answer, request)
            for answer, request in zip(self._one_each(answers, len(requests)), requests, strict=True)
        ]
        return BatchResult(outputs, started_ns - begin_ns, ended_ns - started_ns, time.monotonic_ns() - ended_ns)

    def _one_each(self, answers: object, count: int) -> Sequence[Answer | None]:
        if not isinstance(answers, list | tuple) or len(answers) != count:
            got = f"{len(answers)} of them" if isinstance(answers, list | tuple) else type(answers).__name__
            raise BackendError(
                f"function of model '{self._name}' must return a list with one answer for each of {count} requests, "
                f"got {got}; decorate it with @conch.batch if it takes arrays"
            )
        return answers

    def _output(self, answer: Answer | None, request: InferRequest) -> Output | ConchError:
        """One request's answer as tensors; what does not fit the outputs is that request's error."""
        if isinstance(answer, ConchError):
            return answer
        names = [spec.name for spec in self._outputs]
        if isinstance(answer, Mapping):
            arrays = answer
        elif isinstance(answer, list | tuple) and len(answer) == len(names):
            arrays = dict(zip(names, answer, strict=True))
        else:
            got = f"{len(answer)} arrays" if isinstance(answer, list | tuple) else type(answer).__name__
            return BackendError(
                f"function of model '{self._name}' must answer with a mapping or with {len(names)} arrays, "
                f"of its outputs {names}; got {got}"
            )
        unknown = [name for name in arrays if name not in names]
        if unknown:
            return BackendError(f"function of model '{self._name}' answered {unknown}, its outputs are {names}")
        try:
            tensors = tuple(
                self._tensor(spec.name, spec.data_type, np.asarray(arrays[spec.name]), request)
                for spec in self._outputs
                if spec.name in arrays
            )
        except (TypeError, ValueError) as error:
            return BackendError(f"function of model '{self._name}': {error}")
        return Output(tensors, {})

    def _tensor(self, name: str, datatype: DataType, array: np.ndarray, request: InferRequest) -> Tensor:
        if array.dtype != datatype.dtype and not (datatype is DataType.BYTES and array.dtype.kind in "OSU"):
            raise ValueError(f"output '{name}' must be {datatype.value} (dtype {datatype.dtype}), got {array.dtype}")
        rows = request.inputs[0].shape[0] if self._batching and request.inputs else None
        if rows is not None and (not array.shape or array.shape[0] != rows):
            raise ValueError(f"output '{name}' must have {rows} rows as its request has, got shape {list(array.shape)}")
        return Tensor.from_numpy(name, array, datatype)


class DecoupledFunctionInstance(FunctionInstance):
    """A function that returns an iterator of answers: each goes out as it comes."""

    def execute_into(self, requests: Sequence[InferRequest], sinks: Sequence[ResponseSink]) -> Awaitable[BatchResult]:
        """Have the thread call the function and iterate."""
        return self._thread.submit(lambda: self._stream(requests, sinks))

    def _stream(self, requests: Sequence[InferRequest], sinks: Sequence[ResponseSink]) -> BatchResult:
        started_ns = time.monotonic_ns()
        answers = self._function([Request(request) for request in requests])
        if not isinstance(answers, Iterator):
            raise BackendError(
                f"function of decoupled model '{self._name}' must be a generator, got {type(answers).__name__}"
            )
        for several in answers:
            for answer, request, sink in zip(self._one_each(several, len(requests)), requests, sinks, strict=True):
                if answer is not None:
                    self._thread.tell(sink.send, self._output(answer, request), False)
            if all(sink.cancelled for sink in sinks):
                break
        for sink in sinks:
            self._thread.tell(sink.send, None, True)
        open_ones = [Unanswered.OPEN] * len(requests)
        return BatchResult(open_ones, 0, time.monotonic_ns() - started_ns, 0)
