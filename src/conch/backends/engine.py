"""One batch on one engine: inputs put together, the engine's run, outputs taken apart. No thread, no event loop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from conch.backend_api import BatchResult, Output
from conch.backends.ragged import batch_input, scatter
from conch.config.schema import ModelConfig, ModelInput, ModelOutput
from conch.errors import BackendError, Code, ConchError
from conch.inference import InferRequest, Parameter
from conch.tensor import DataType, Tensor
from conch.tensor.batch import concatenate, flatten, split

_NO_PARAMETERS: Mapping[str, Parameter] = {}


class Engine(Protocol):
    """A model loaded into a framework. Used by one thread at a time.

    Attributes:
        any_thread: whether any thread may run it; else the one that made it alone does. It is closed there always.
    """

    any_thread: bool

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Sequence[np.ndarray]:
        """Run the model once.

        Args:
            inputs: arrays by input name, aligned and C-contiguous, possibly read-only: they may look into memory that
                others read too. BF16 comes as its uint16 bits, BYTES as objects of type `bytes`.
            outputs: names of the outputs to compute.

        Returns:
            The outputs in the order asked for, in the same representation (BYTES may also be `str`).

        Raises:
            ConchError, or whatever the framework raises: the batch fails with its text.
        """
        ...

    def close(self) -> None:
        """Free the model (or this user's share of it)."""
        ...


class BatchRunner:
    """Runs batches of requests on an engine, along a model's configuration."""

    def __init__(self, config: ModelConfig, engine: Engine) -> None:
        self._model = config.name
        self._batching = config.max_batch_size > 0
        self._inputs = config.input
        self._outputs = config.output
        self._names = tuple(output.name for output in config.output)
        self._batch_inputs = config.batch_input
        self._scattered = {name: entry.source_input for entry in config.batch_output for name in entry.target_name}
        self._engine = engine

    def run(self, requests: Sequence[InferRequest]) -> BatchResult:
        """Execute a batch.

        Raises:
            ConchError: the batch as a whole failed.
        """
        begin_ns = time.monotonic_ns()
        sizes = [self._batch_size(request) for request in requests]
        if not self._batching and len(requests) > 1:
            raise BackendError(
                f"model '{self._model}' has max_batch_size 0 and executes one request at a time, got {len(requests)}"
            )
        try:
            arrays = self._gather(requests, sizes)
        except ValueError as error:
            raise BackendError(f"inputs of model '{self._model}': {error}", Code.INVALID_ARG) from error
        wanted = self._wanted(requests)
        started_ns = time.monotonic_ns()
        try:
            answers = self._engine.run(arrays, [output.name for output in wanted])
        except ConchError:
            raise
        except Exception as error:  # every framework has exceptions of its own, and models can raise anything
            raise BackendError(f"{type(self._engine).__name__} execute failure: {error}") from error
        ended_ns = time.monotonic_ns()
        columns = [self._take_apart(spec, array, requests, sizes) for spec, array in zip(wanted, answers, strict=True)]
        outputs = [Output(tensors, _NO_PARAMETERS) for tensors in zip(*columns, strict=True)]
        if not columns:
            outputs = [Output((), _NO_PARAMETERS) for _ in requests]
        return BatchResult(outputs, started_ns - begin_ns, ended_ns - started_ns, time.monotonic_ns() - ended_ns)

    def _batch_size(self, request: InferRequest) -> int:
        if not self._batching or not request.inputs:
            return 1
        shape = request.inputs[0].shape
        return shape[0] if shape else 1

    def _gather(self, requests: Sequence[InferRequest], sizes: Sequence[int]) -> dict[str, np.ndarray]:
        """The inputs of all requests as one array each. Inputs that no request brings are left out."""
        arrays: dict[str, np.ndarray] = {}
        for spec in self._inputs:
            tensors = [tensor for request in requests if (tensor := request.input(spec.name)) is not None]
            if not tensors:
                continue
            if len(tensors) != len(requests):
                raise ValueError(f"optional input '{spec.name}' is given by {len(tensors)} of {len(requests)} requests")
            ragged = self._batching and spec.allow_ragged_batch
            if self._batching and not ragged:
                self._check_batch_sizes(spec, tensors, sizes)
            whole = flatten(tensors) if ragged else concatenate(tensors)
            arrays[spec.name] = _aligned(whole.as_numpy())
        for entry in self._batch_inputs:
            made = batch_input(entry, _sources(requests, entry.source_input), batching=self._batching)
            arrays.update(dict.fromkeys(entry.target_name, made))
        return arrays

    def _check_batch_sizes(self, spec: ModelInput, tensors: Sequence[Tensor], sizes: Sequence[int]) -> None:
        for tensor, size in zip(tensors, sizes, strict=True):
            if not tensor.shape or tensor.shape[0] != size:
                raise ValueError(
                    f"input '{spec.name}' of shape {list(tensor.shape)} does not have the request's batch size {size}"
                )

    def _wanted(self, requests: Sequence[InferRequest]) -> Sequence[ModelOutput]:
        """The outputs that at least one request of the batch asks for, in the configuration's order."""
        asked: set[str] = set()
        for request in requests:
            if not request.outputs:
                return self._outputs
            asked.update(output.name for output in request.outputs)
        if asked.issuperset(self._names):
            return self._outputs
        return [output for output in self._outputs if output.name in asked]

    def _take_apart(
        self, spec: ModelOutput, array: np.ndarray, requests: Sequence[InferRequest], sizes: Sequence[int]
    ) -> list[Tensor]:
        """An output's array as one tensor a request, over the array's own memory."""
        if array.dtype != spec.data_type.dtype and not (spec.data_type is DataType.BYTES and array.dtype.kind in "OSU"):
            raise BackendError(
                f"unexpected datatype {_config_name(array)} for inference output '{spec.name}', expecting "
                f"{spec.data_type.config_name}"
            )
        source = self._scattered.get(spec.name)
        if source is not None:
            return self._scatter(spec, array, _sources(requests, source))
        total = sum(sizes)
        if self._batching and (not array.shape or array.shape[0] != total):
            raise BackendError(
                f"failed to split the output tensor '{spec.name}' in responses: expected batch size of {total} in "
                f"model output, got shape {list(array.shape)}"
            )
        tensor = Tensor.from_numpy(spec.name, array, spec.data_type)
        return split(tensor, sizes) if self._batching else [tensor]

    def _scatter(self, spec: ModelOutput, array: np.ndarray, sources: Sequence[Tensor]) -> list[Tensor]:
        whole = Tensor.from_numpy(spec.name, array, spec.data_type)
        try:
            return scatter(spec, whole, sources, batching=self._batching)
        except ValueError as error:
            raise BackendError(f"failed to split outputs of model '{self._model}' in responses: {error}") from error


def _sources(requests: Sequence[InferRequest], name: str) -> list[Tensor]:
    """An input of every request that others are made of.

    Raises:
        BackendError: a request left it out.
    """
    tensors = [tensor for request in requests if (tensor := request.input(name)) is not None]
    if len(tensors) != len(requests):
        raise BackendError(
            f"input '{name}' tells of the batch, so every request must have it; {len(requests) - len(tensors)} of "
            f"{len(requests)} do not",
            Code.INVALID_ARG,
        )
    return tensors


def _aligned(array: np.ndarray) -> np.ndarray:
    """The array, or a copy where its elements do not lie at multiples of their size (in a request body they may)."""
    return array if array.flags.aligned else array.copy()


def _config_name(array: np.ndarray) -> str:
    known = next((each for each in DataType if each.dtype == array.dtype), None)
    return known.config_name if known is not None else str(array.dtype)
