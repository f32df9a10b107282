"""The requests that an ensemble sends to the models of its steps, and the errors that come back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from conch.config.schema import ModelConfig
from conch.core.ensemble import EnsembleGraph, Step
from conch.core.queue import RequestFuture
from conch.errors import ERROR_BY_CODE, BackendError, ConchError, RejectedError, UnavailableError
from conch.inference import SEQUENCE_END, SEQUENCE_START, InferRequest, Parameter
from conch.tensor import Tensor


class StepModel(Protocol):
    """What an ensemble asks of the model of a step."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def healthy(self) -> bool: ...

    def infer(self, request: InferRequest) -> RequestFuture: ...

    def label(self, output: str, index: int) -> str: ...


#: The model of that name and version ("" for the newest that is ready); raises ConchError when there is none.
FindModel = Callable[[str, str], StepModel]


def label(graph: EnsembleGraph, find: FindModel, output: str, index: int) -> str:
    """The class label that the model of the step has which makes an output; "" without one."""
    source = graph.source(output)
    if source is None:
        return ""
    step, name = source
    try:
        return find(step.model_name, step.model_version).label(name, index)
    except ConchError:
        return ""


class StepRequests:
    """Makes and sends them, and makes the tensors of the steps those of the ensemble's own response.

    Args:
        find: asked anew for every step of every request, so that a reloaded model is taken up at once.
        decoupled: the steps that may answer more than once.
    """

    def __init__(
        self, config: ModelConfig, graph: EnsembleGraph, find: FindModel, decoupled: Collection[int] = ()
    ) -> None:
        self._name = config.name
        self._steps = graph.steps
        self._find = find
        self._decoupled = decoupled
        self._batches = config.max_batch_size > 0
        self._output_ranks = {
            spec.name: len(spec.dims if spec.reshape is None else spec.reshape) + self._batches
            for spec in config.output
        }
        self._fits: dict[int, tuple[StepModel, Mapping[str, int]]] = {}

    @property
    def healthy(self) -> bool:
        """Whether every step has a model that can execute."""
        try:
            return all(self._find(step.model_name, step.model_version).healthy for step in self._steps)
        except ConchError:
            return False

    def send(
        self, request: InferRequest, tensors: Mapping[str, Tensor], number: int, response_window: int = 0
    ) -> RequestFuture:
        """Ask the model of a step.

        Args:
            request: the request to the ensemble.
            tensors: the ensemble's tensors there are, under its own names.
            response_window: see `InferRequest`.

        Raises:
            ConchError: there is no such model, or it does not take the request.
        """
        step = self._steps[number]
        model = self._find(step.model_name, step.model_version)
        known = self._fits.get(number)
        if known is None or known[0] is not model:
            known = self._take_up(number, model)
        ranks = known[1]
        inputs = []
        for name, tensor_name in step.inputs:
            tensor = tensors.get(tensor_name)
            if tensor is not None:  # else an optional one that nobody gave
                rank = ranks.get(name, -1)
                if tensor.name != name or len(tensor.shape) != rank:
                    tensor = _fitted(tensor, name, rank, batches=model.config.max_batch_size > 0)
                inputs.append(tensor)
        return model.infer(
            InferRequest(
                step.model_name,
                step.model_version,
                tuple(inputs),
                request.id,
                step.requested,
                request.parameters,
                request.correlation_id,
                request.flags,
                request.priority,
                request.timeout_us,
                trace=None if request.trace is None else request.trace.part(),
                response_window=response_window,
            )
        )

    def _take_up(self, number: int, model: StepModel) -> tuple[StepModel, Mapping[str, int]]:
        config = model.config
        if config.decoupled and number not in self._decoupled:
            raise UnavailableError(
                f"model '{config.name}' has become decoupled; the ensemble is being loaded again to make use of it"
            )
        batch = 1 if config.max_batch_size else 0
        known = self._fits[number] = (model, {spec.name: len(spec.dims) + batch for spec in config.input})
        return known

    def outputs(self, tensors: Mapping[str, Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
        """Those of the ensemble's tensors that are its outputs of these names, in the form its clients expect."""
        outputs = []
        for name in names:
            tensor = tensors.get(name)
            if tensor is not None:
                rank = self._output_ranks[name]
                if tensor.name != name or len(tensor.shape) != rank:
                    tensor = _fitted(tensor, name, rank, batches=self._batches)
                outputs.append(tensor)
        return tuple(outputs)

    def named(self, step: Step, error: ConchError) -> ConchError:
        """An error of a step as the ensemble's: in Triton's words, and with the step's name where they lack it."""
        text = error.message if f"'{step.model_name}" in error.message else f"step '{step.model_name}': {error.message}"
        text = f"in ensemble '{self._name}', {text}"
        if isinstance(error, BackendError):
            return BackendError(text, error.code)
        if isinstance(error, RejectedError):
            return RejectedError(text)
        return ERROR_BY_CODE[error.code](text)


def _fitted(tensor: Tensor, name: str, rank: int, *, batches: bool) -> Tensor:
    """The same data under another name, and in the form that a model that batches, or does not, expects.

    A batch of one and no batch are the same data: the dimension is put before or taken away. Every other shape is left
    as it is, for the model to refuse.
    """
    shape = tensor.shape
    if batches and len(shape) == rank - 1:
        shape = (1, *shape)
    elif not batches and len(shape) == rank + 1 and shape[0] == 1:
        shape = shape[1:]
    return Tensor(name, tensor.datatype, shape, tensor.data)


def sum_of(left: tuple[int, int, int], right: tuple[int, int, int]) -> tuple[int, int, int]:
    """Times of input, inference and output added up."""
    return left[0] + right[0], left[1] + right[1], left[2] + right[2]


def sequence_parameters(request: InferRequest, outputs: Sequence[Tensor]) -> Mapping[str, Parameter]:
    """The sequence a response belongs to, which every response of an ensemble that brings tensors says."""
    if not outputs:
        return {}
    return {
        "sequence_id": request.correlation_id,
        "sequence_start": bool(request.flags & SEQUENCE_START),
        "sequence_end": bool(request.flags & SEQUENCE_END),
    }
