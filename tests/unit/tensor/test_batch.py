from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conch.tensor import DataType, Tensor
from conch.tensor.batch import concatenate, flatten, split


def tensor(array: np.ndarray, datatype: DataType = DataType.FP32, name: str = "x") -> Tensor:
    return Tensor.from_numpy(name, array, datatype)


sizes_of_requests = st.lists(st.integers(0, 4), min_size=1, max_size=6)
inner_shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)


@given(sizes_of_requests, inner_shapes, st.sampled_from([DataType.FP32, DataType.BOOL, DataType.BF16, DataType.INT64]))
def test_splitting_undoes_putting_together(sizes: list[int], inner: tuple[int, ...], datatype: DataType) -> None:
    parts = []
    for index, size in enumerate(sizes):
        values = np.arange(size * math.prod(inner)).reshape(size, *inner) + index
        parts.append(tensor(values.astype(datatype.dtype), datatype))
    whole = concatenate(parts)
    expected = np.concatenate([part.as_numpy() for part in parts])
    assert whole.shape == expected.shape
    assert np.array_equal(whole.as_numpy(), expected)
    again = split(whole, sizes)
    assert [part.shape for part in again] == [part.shape for part in parts]
    assert [bytes(part.data) for part in again] == [bytes(part.data) for part in parts]


@given(st.lists(st.lists(st.binary(max_size=5), max_size=3), min_size=1, max_size=4))
def test_bytes_elements_come_back_as_they_were(requests: list[list[bytes]]) -> None:
    parts = [tensor(np.array(elements, dtype=object), DataType.BYTES) for elements in requests]
    again = split(concatenate(parts), [len(elements) for elements in requests])
    assert [part.as_numpy().tolist() for part in again] == requests


def test_a_single_tensor_is_not_copied() -> None:
    only = tensor(np.ones((2, 3), np.float32))
    assert concatenate([only]) is only
    assert split(only, [2]) == [only]


def test_parts_look_into_the_memory_of_the_whole() -> None:
    array = np.zeros((4, 2), np.float32)
    parts = split(tensor(array), [1, 3])
    array[3, 1] = 7
    assert parts[1].as_numpy()[2, 1] == 7


def test_elements_of_unequal_shapes_are_laid_out_in_one_row() -> None:
    whole = flatten([tensor(np.ones((1, 3), np.float32)), tensor(np.zeros((1, 2), np.float32))])
    assert whole.shape == (5,)
    assert whole.as_numpy().tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    "second",
    [
        tensor(np.zeros((1, 4), np.float32)),
        tensor(np.zeros((1, 3), np.float64), DataType.FP64),
        tensor(np.zeros((), np.float32)),
    ],
)
def test_tensors_that_do_not_fit_are_refused_with_both_shapes(second: Tensor) -> None:
    with pytest.raises(ValueError, match=r"cannot put together 'x' of FP32 \[1, 3\] and 'x' of "):
        concatenate([tensor(np.zeros((1, 3), np.float32)), second])


def test_parts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot split 'x' of shape \[3, 2\] into parts of \[1, 1\]"):
        split(tensor(np.zeros((3, 2), np.float32)), [1, 1])
