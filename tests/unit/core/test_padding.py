"""Tensors made longer and cut back."""

from __future__ import annotations

import numpy as np
import pytest

from conch.config.padding import ABSENT, PaddedAxis, PaddedInput, Padding
from conch.core.padding import (
    cut_response,
    longest_of,
    pad_request,
    pad_tensor,
    request_lengths,
    unpadded_shapes,
)
from conch.errors import BackendError, InvalidArgumentError
from conch.inference import InferRequest, InferResponse
from conch.tensor import DataType, Tensor

TEXT = Padding(
    groups=("sequence",),
    inputs={"ids": PaddedInput((PaddedAxis(0, 0),), 9), "mask": PaddedInput((PaddedAxis(0, 0),), 0)},
    outputs={"states": (PaddedAxis(0, 0),)},
    terms=((0,),),
    max_ratio=2.0,
    max_tokens=0,
)


def tensor(name: str, values: object, datatype: DataType = DataType.INT64) -> Tensor:
    return Tensor.from_numpy(name, np.asarray(values, dtype=datatype.dtype), datatype)


def request(*inputs: Tensor) -> InferRequest:
    return InferRequest("m", "", inputs)


def response(*outputs: Tensor) -> InferResponse:
    return InferResponse("m", "1", "", outputs)


def test_a_request_has_the_length_of_its_groups() -> None:
    both = request(tensor("ids", [[1, 2, 3]]), tensor("mask", [[1, 1, 1]]), tensor("other", [[1]]))
    assert request_lengths(both, TEXT, "m") == (3,)
    assert request_lengths(request(tensor("other", [[1]])), TEXT, "m") == (ABSENT,)


def test_inputs_of_a_group_that_differ_in_length_are_refused() -> None:
    unequal = request(tensor("ids", [[1, 2, 3]]), tensor("mask", [[1, 1]]))
    with pytest.raises(InvalidArgumentError, match=r"input 'mask' for model 'm' has size 2 on axis 1.*'sequence'.* 3"):
        request_lengths(unequal, TEXT, "m")


def test_shapes_are_compared_without_padded_axes() -> None:
    short, long = [tensor("ids", [[1]]), tensor("other", [[1]])], [tensor("ids", [[1, 2]]), tensor("other", [[1]])]
    wider = [tensor("ids", [[1]]), tensor("other", [[1, 2]])]
    assert unpadded_shapes(short, TEXT) == unpadded_shapes(long, TEXT)
    assert unpadded_shapes(short, TEXT) != unpadded_shapes(wider, TEXT)


def test_padding_follows_the_elements_of_every_row() -> None:
    padded = pad_request(request(tensor("ids", [[1, 2], [3, 4]]), tensor("mask", [[1, 1], [1, 1]])), (3,), TEXT)
    assert padded.inputs[0].as_numpy().tolist() == [[1, 2, 9], [3, 4, 9]]
    assert padded.inputs[1].as_numpy().tolist() == [[1, 1, 0], [1, 1, 0]]


def test_only_what_must_be_longer_is_copied() -> None:
    given = request(tensor("ids", [[1, 2]]), tensor("other", [[5]]))
    assert pad_request(given, (2,), TEXT).inputs[0] is given.inputs[0]
    assert pad_request(given, (3,), TEXT).inputs[1] is given.inputs[1]


def test_a_batch_is_padded_to_its_longest() -> None:
    assert longest_of([(3, 1), (2, 5)]) == (3, 5)


@pytest.mark.parametrize(
    ("datatype", "values", "fill", "expected"),
    [
        (DataType.BYTES, [[b"a", b"bc"]], b"", [[b"a", b"bc", b"", b""]]),
        (DataType.BYTES, [[b"a"], [b"b"]], b"-", [[b"a", b"-", b"-", b"-"], [b"b", b"-", b"-", b"-"]]),
        (DataType.BOOL, [[True]], False, [[True, False, False, False]]),
        (DataType.BF16, [[1, 2]], 0x3F80, [[1, 2, 0x3F80, 0x3F80]]),
        (DataType.FP16, [[1.5]], -1.0, [[1.5, -1.0, -1.0, -1.0]]),
    ],
)
def test_every_datatype_can_be_padded(datatype: DataType, values: object, fill: bytes, expected: list[object]) -> None:
    given = tensor("t", values, datatype)
    padded = pad_tensor(given, (given.shape[0], 4), fill)
    assert padded.as_numpy().tolist() == expected


def test_an_axis_in_front_of_others_and_two_axes_at_once_are_padded() -> None:
    image = tensor("t", np.arange(4).reshape(1, 1, 2, 2))
    assert pad_tensor(image, (1, 1, 3, 2), 7).as_numpy().tolist() == [[[[0, 1], [2, 3], [7, 7]]]]
    assert pad_tensor(image, (1, 1, 3, 3), 7).as_numpy().tolist() == [[[[0, 1, 7], [2, 3, 7], [7, 7, 7]]]]


def test_an_empty_tensor_becomes_nothing_but_padding() -> None:
    assert pad_tensor(tensor("t", np.zeros((1, 0))), (1, 2), 7).as_numpy().tolist() == [[7, 7]]
    assert pad_tensor(tensor("t", np.zeros((2, 0))), (2, 1), 7).as_numpy().tolist() == [[7], [7]]


def test_outputs_are_cut_to_the_requests_own_length_and_others_left() -> None:
    states = tensor("states", np.arange(12).reshape(2, 3, 2))
    other = tensor("other", np.arange(3).reshape(1, 3))
    cut = cut_response(response(states, other), (2,), (3,), TEXT)
    assert cut.outputs[0].as_numpy().tolist() == [[[0, 1], [2, 3]], [[6, 7], [8, 9]]]
    assert cut.outputs[1] is other


def test_one_row_is_cut_without_a_copy() -> None:
    states = tensor("states", np.arange(6).reshape(1, 3, 2))
    cut = cut_response(response(states), (2,), (3,), TEXT)
    assert np.shares_memory(cut.outputs[0].as_numpy(), states.as_numpy())


def test_texts_are_cut_too() -> None:
    words = tensor("states", [[b"a", b"bc", b""]], DataType.BYTES)
    assert cut_response(response(words), (2,), (3,), TEXT).outputs[0].as_numpy().tolist() == [[b"a", b"bc"]]


@pytest.mark.parametrize("shape", [(1, 4, 2), (1,)])
def test_an_output_that_is_not_as_long_as_its_inputs_is_an_error_even_when_nothing_was_padded(
    shape: tuple[int, ...],
) -> None:
    with pytest.raises(BackendError, match=r"model 'm' made output 'states' .* axis 1 should have size 3 .*'sequence'"):
        cut_response(response(tensor("states", np.zeros(shape))), (3,), (3,), TEXT)


def test_outputs_of_a_group_without_inputs_stay_as_they_are() -> None:
    states = tensor("states", np.zeros((1, 4, 2)))
    assert cut_response(response(states), (ABSENT,), (ABSENT,), TEXT).outputs[0] is states
