"""Responses as the API has them, and what iterates over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conch.errors import ConchError
from conch.inference import Parameter
from conch.inprocess import inference
from conch.tritonserver.tensor import Tensor

if TYPE_CHECKING:
    from conch.tritonserver.model import Model


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


class _Progress:
    """Makes the responses of one request; says when the end was not told by the last of them."""

    def __init__(self, model: Model, request_id: str | None) -> None:
        self._model = model
        self._request_id = request_id
        self.final = False

    def response(self, answer: inference.InferenceResponse) -> InferenceResponse:
        self.final = answer.final
        return InferenceResponse(
            self._model.of_version(answer.model_version),
            answer.request_id,
            answer.parameters,
            {tensor.name: Tensor(tensor) for tensor in answer.tensors},
            answer.error,
            final=answer.final,
        )

    def end(self) -> InferenceResponse:
        """The response that says nothing but the end."""
        self.final = True
        return InferenceResponse(self._model, self._request_id, final=True)


class ResponseIterator:
    """The responses to one request as they come; the last one is `final`."""

    def __init__(self, model: Model, answers: inference.ResponseIterator, request_id: str | None) -> None:
        self._answers = answers
        self._progress = _Progress(model, request_id)

    def __iter__(self) -> ResponseIterator:
        return self

    def __next__(self) -> InferenceResponse:
        try:
            return self._progress.response(next(self._answers))
        except StopIteration:
            if self._progress.final:
                raise
            return self._progress.end()
        except ConchError:
            self._progress.final = True
            raise

    def cancel(self) -> None:
        """Give the request up."""
        self._answers.cancel()


class AsyncResponseIterator:
    """As `ResponseIterator`, for `async for`."""

    def __init__(self, model: Model, answers: inference.AsyncResponseIterator, request_id: str | None) -> None:
        self._answers = answers
        self._progress = _Progress(model, request_id)

    def __aiter__(self) -> AsyncResponseIterator:
        return self

    async def __anext__(self) -> InferenceResponse:
        try:
            return self._progress.response(await anext(self._answers))
        except StopAsyncIteration:
            if self._progress.final:
                raise
            return self._progress.end()
        except ConchError:
            self._progress.final = True
            raise

    def cancel(self) -> None:
        """Give the request up."""
        self._answers.cancel()
