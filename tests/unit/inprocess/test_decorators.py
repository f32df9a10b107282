"""Functions that take arrays: joined inputs, split outputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import conch
from conch.backends.function import Request
from conch.errors import InvalidArgumentError
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor


def request(**arrays: np.ndarray) -> Request:
    tensors = tuple(Tensor.from_numpy(name, array, DataType.FP32) for name, array in arrays.items())
    return Request(InferRequest("m", "", tensors))


ONE = request(x=np.ones((1, 2), np.float32))
TWO = request(x=np.full((2, 2), 2, np.float32))


def test_a_batched_function_gets_all_rows_and_every_request_gets_its_own_back() -> None:
    seen: list[tuple[int, ...]] = []

    @conch.batch
    def double(x: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(x.shape)
        return {"y": 2 * x}

    answers = double([ONE, TWO])
    assert seen == [(3, 2)]
    assert isinstance(answers, list)
    assert [answer["y"].tolist() for answer in answers] == [[[2, 2]], [[4, 4], [4, 4]]]


def test_outputs_may_be_a_sequence_in_the_order_of_the_configuration() -> None:
    @conch.batch
    def both(x: np.ndarray) -> list[np.ndarray]:
        return [x, -x]

    answers = both([ONE, TWO])
    assert isinstance(answers, list)
    assert [[part.shape for part in answer] for answer in answers] == [[(1, 2)] * 2, [(2, 2)] * 2]


def test_a_generator_is_split_item_by_item() -> None:
    @conch.batch
    def count(x: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        for number in range(2):
            yield {"y": x + number}

    answers = count([ONE, TWO])
    assert isinstance(answers, Iterator)
    assert [[part["y"][0, 0] for part in several] for several in answers] == [[1, 2], [2, 3]]


def test_an_output_with_too_few_rows_is_refused() -> None:
    wrong = conch.batch(lambda x: {"y": x[:1]})
    with pytest.raises(InvalidArgumentError, match=r"output 'y' must have 3 rows.*got shape \[1, 2\]"):
        wrong([ONE, TWO])


def test_requests_with_different_inputs_are_not_joined() -> None:
    same = conch.batch(lambda **inputs: inputs)
    with pytest.raises(InvalidArgumentError, match="must bring the same inputs"):
        same([ONE, request(z=np.ones((1, 2), np.float32))])


def test_an_answer_that_is_no_mapping_or_sequence_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="a mapping or a sequence of arrays, got ndarray"):
        conch.batch(lambda x: x)([ONE, TWO])


def test_a_sample_function_is_called_for_each_request() -> None:
    answers = conch.sample(lambda x: {"rows": len(x)})([ONE, TWO])
    assert answers == [{"rows": 1}, {"rows": 2}]
