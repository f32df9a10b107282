"""Both iterators have the same rules: responses, errors, the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from conch.errors import BackendError, ConchError
from conch.inprocess import inference
from conch.tensor import DataType
from conch.tensor import Tensor as CoreTensor
from conch.tritonserver.request import InferenceRequest
from conch.tritonserver.response import AsyncResponseIterator, InferenceResponse, ResponseIterator
from tests.unit.tritonserver.test_memory import Arrays

#: What an iteration gave: responses and, in the place of those that raised, errors.
Told = list[InferenceResponse | ConchError]


class Model:
    """Stands for the model of the requests."""

    def __init__(self, version: str = "") -> None:
        self.version = version

    def of_version(self, version: str) -> Model:
        return Model(version)


class Answers:
    """Answers of the server, for both kinds of iteration."""

    def __init__(self, answers: Sequence[inference.InferenceResponse]) -> None:
        self._left = list(answers)

    def __next__(self) -> inference.InferenceResponse:
        if not self._left:
            raise StopIteration
        return self._left.pop(0)

    async def __anext__(self) -> inference.InferenceResponse:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop(0)

    def __aiter__(self) -> Answers:
        return self


def answer(value: int = 0, *, final: bool = False, error: ConchError | None = None) -> inference.InferenceResponse:
    tensors = () if error else (CoreTensor.from_numpy("OUT", np.array([value], np.int32), DataType.INT32),)
    return inference.InferenceResponse("m", "2", "r", {}, {"p": 1}, error, final, tensors)


def iterate(answers: Sequence[inference.InferenceResponse], request: InferenceRequest, raising: bool) -> Told:
    responses = ResponseIterator(request.model, request, Answers(answers), raising)  # type: ignore[arg-type]
    told: Told = []
    while True:
        try:
            told.append(next(responses))
        except StopIteration:
            return told
        except ConchError as error:
            told.append(error)


def iterate_async(answers: Sequence[inference.InferenceResponse], request: InferenceRequest, raising: bool) -> Told:
    async def run() -> Told:
        responses = AsyncResponseIterator(request.model, request, Answers(answers), raising)  # type: ignore[arg-type]
        told: Told = []
        while True:
            try:
                told.append(await anext(responses))
            except StopAsyncIteration:
                return told
            except ConchError as error:
                told.append(error)

    return asyncio.run(run())


both = pytest.mark.parametrize("iteration", [iterate, iterate_async])
Iteration = Callable[[Sequence[inference.InferenceResponse], InferenceRequest, bool], Told]


def asked(**fields: Any) -> InferenceRequest:
    return InferenceRequest(Model(), "r", **fields)  # type: ignore[arg-type]


@both
def test_the_only_response_is_the_last_one(iteration: Iteration) -> None:
    (response,) = iteration([answer(5, final=True)], asked(), True)
    assert isinstance(response, InferenceResponse)
    assert (response.final, response.request_id, response.model.version, response.parameters) == (
        True,
        "r",
        "2",
        {"p": 1},
    )
    assert np.array(response.outputs["OUT"]).tolist() == [5]


@both
def test_an_end_that_no_response_told_is_a_response_without_outputs(iteration: Iteration) -> None:
    told = iteration([answer(1), answer(2)], asked(), True)
    assert [each.final for each in told if isinstance(each, InferenceResponse)] == [False, False, True]
    assert told[2] == InferenceResponse(told[2].model, "r", final=True)  # type: ignore[union-attr]


@both
def test_an_error_is_raised_or_handed_over_and_the_rest_follows(iteration: Iteration) -> None:
    error = BackendError("no")
    answers = [answer(1), answer(error=error), answer(3, final=True)]
    raised = iteration(answers, asked(), True)
    assert raised[1] is error
    assert [each.final for each in (raised[0], raised[2]) if isinstance(each, InferenceResponse)] == [False, True]
    handed = iteration(answers, asked(), False)
    assert [each.error for each in handed if isinstance(each, InferenceResponse)] == [None, error, None]


@both
def test_a_request_that_failed_has_no_further_response(iteration: Iteration) -> None:
    error = BackendError("no")
    assert iteration([answer(error=error, final=True)], asked(), True) == [error]


@both
def test_outputs_lie_where_the_allocator_of_the_request_says(iteration: Iteration) -> None:
    allocator = Arrays()
    (response,) = iteration([answer(7, final=True)], asked(output_memory_allocator=allocator), True)
    assert isinstance(response, InferenceResponse)
    assert allocator.given["OUT"].view(np.int32).tolist() == [7]
    assert response.outputs["OUT"].data_ptr == allocator.given["OUT"].ctypes.data
