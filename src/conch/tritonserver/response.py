"""Responses as the API has them, and what iterates over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conch.errors import ConchError
from conch.inference import Parameter
from conch.inprocess import inference
from conch.tensor import Tensor as CoreTensor
from conch.tritonserver.memory import placed
from conch.tritonserver.tensor import Tensor

if TYPE_CHECKING:
    from conch.tritonserver.model import Model
    from conch.tritonserver.request import InferenceRequest


@dataclass
class InferenceResponse:
    """One response.

    Attributes:
        model: what answered, with the version that did.
        error: what went wrong, with iterators that do not raise.
        final: whether it is the last one; of a decoupled model that has outputs or not.
    """

    model: Model
    request_id: str | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    outputs: Mapping[str, Tensor] = field(default_factory=dict)
    error: ConchError | None = None
    classification_label: str | None = None
    final: bool = False


class _Responses:
    """What both iterators do: the responses of one request, and the end where no response told it.

    Args:
        raise_on_error: raise a response's error instead of handing the response over.
    """

    def __init__(self, model: Model, request: InferenceRequest, raise_on_error: bool) -> None:
        self._model = model
        self._request_id = request.request_id
        self._allocator = request.output_memory_allocator
        self._raise_on_error = raise_on_error
        self._over = False

    def of(self, answer: inference.InferenceResponse | None) -> InferenceResponse | None:
        """The response that an answer makes, None standing for the end of the answers; None when all was said.

        Raises:
            ConchError: the answer is an error, or its outputs cannot be where they should.
        """
        if answer is None:
            if self._over:
                return None
            self._over = True
            return InferenceResponse(self._model, self._request_id, final=True)
        self._over = answer.final
        if answer.error is not None and self._raise_on_error:
            raise answer.error
        return InferenceResponse(
            self._model.of_version(answer.model_version),
            answer.request_id,
            answer.parameters,
            {tensor.name: self._output(tensor) for tensor in answer.tensors},
            answer.error,
            final=answer.final,
        )

    def _output(self, tensor: CoreTensor) -> Tensor:
        if self._allocator is None:
            return Tensor.of_core(tensor)
        return Tensor(tensor.datatype, tensor.shape, placed(tensor.data, self._allocator, tensor.name))


class ResponseIterator:
    """The responses to one request as they come; the last one is `final`.

    Args:
        answers: iterates without raising errors of responses.
    """

    def __init__(
        self, model: Model, request: InferenceRequest, answers: inference.ResponseIterator, raise_on_error: bool
    ) -> None:
        self._answers = answers
        self._responses = _Responses(model, request, raise_on_error)

    def __iter__(self) -> ResponseIterator:
        return self

    def __next__(self) -> InferenceResponse:
        response = self._responses.of(next(self._answers, None))
        if response is None:
            raise StopIteration
        return response

    def cancel(self) -> None:
        """Give the request up."""
        self._answers.cancel()


class AsyncResponseIterator:
    """As `ResponseIterator`, for `async for`."""

    def __init__(
        self, model: Model, request: InferenceRequest, answers: inference.AsyncResponseIterator, raise_on_error: bool
    ) -> None:
        self._answers = answers
        self._responses = _Responses(model, request, raise_on_error)

    def __aiter__(self) -> AsyncResponseIterator:
        return self

    async def __anext__(self) -> InferenceResponse:
        response = self._responses.of(await anext(self._answers, None))
        if response is None:
            raise StopAsyncIteration
        return response

    def cancel(self) -> None:
        """Give the request up."""
        self._answers.cancel()
