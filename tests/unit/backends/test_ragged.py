"""Inputs made of a batch, and outputs taken apart along an input: the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conch.backends.ragged import batch_input, scatter
from conch.config.schema import BatchInput, BatchInputKind, ModelOutput
from conch.tensor import DataType, Tensor


def source(*shape: int, datatype: DataType = DataType.FP32, first: float = 0) -> Tensor:
    values = np.arange(first, first + np.prod(shape)).reshape(shape).astype(datatype.dtype)
    return Tensor.from_numpy("x", values, datatype)


def made(kind: BatchInputKind, *shapes: tuple[int, ...], batching: bool = True) -> np.ndarray:
    entry = BatchInput(kind, ("n",), DataType.INT32, "x")
    return batch_input(entry, [source(*shape) for shape in shapes], batching=batching)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (BatchInputKind.ELEMENT_COUNT, [3, 4, 10]),
        (BatchInputKind.ACCUMULATED_ELEMENT_COUNT, [3, 7, 17]),
        (BatchInputKind.ACCUMULATED_ELEMENT_COUNT_WITH_ZERO, [0, 3, 7, 17]),
        (BatchInputKind.MAX_ELEMENT_COUNT_AS_SHAPE, [0] * 10),
        (BatchInputKind.ITEM_SHAPE, [[3], [4], [5], [5]]),
        (BatchInputKind.ITEM_SHAPE_FLATTEN, [3, 4, 5, 5]),
    ],
)
def test_each_kind_tells_of_requests_or_of_their_inferences(kind: BatchInputKind, expected: list[object]) -> None:
    assert made(kind, (1, 3), (1, 4), (2, 5)).tolist() == expected


def test_shapes_of_several_dimensions_come_as_rows_or_one_after_the_other() -> None:
    shapes = ((2, 3, 7), (1, 4, 8))
    assert made(BatchInputKind.ITEM_SHAPE, *shapes).tolist() == [[3, 7], [3, 7], [4, 8]]
    assert made(BatchInputKind.ITEM_SHAPE_FLATTEN, *shapes).tolist() == [3, 7, 3, 7, 4, 8]


def test_without_batching_the_whole_shape_is_that_of_the_item() -> None:
    assert made(BatchInputKind.ITEM_SHAPE, (3, 7), batching=False).tolist() == [[3, 7]]
    assert made(BatchInputKind.ELEMENT_COUNT, (3, 7), batching=False).tolist() == [21]


def test_the_datatype_is_that_of_the_configuration() -> None:
    entry = BatchInput(BatchInputKind.ELEMENT_COUNT, ("n",), DataType.FP32, "x")
    counts = batch_input(entry, [source(1, 2)], batching=True)
    assert (counts.dtype, counts.tolist()) == (np.float32, [2.0])


Y = ModelOutput("y", DataType.FP32, (-1,))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=6))
def test_what_was_laid_end_to_end_comes_back_to_its_request(shapes: list[tuple[int, int]]) -> None:
    starts = np.cumsum([0, *(rows * size for rows, size in shapes)])
    sources = [source(*shape, first=float(start)) for shape, start in zip(shapes, starts, strict=False)]
    whole = source(int(starts[-1]))
    parts = scatter(Y, whole, sources, batching=True)
    assert [part.shape for part in parts] == shapes
    assert all(np.array_equal(part.as_numpy(), each.as_numpy()) for part, each in zip(parts, sources, strict=True))


def test_fixed_dimensions_are_the_outputs_own_and_others_those_of_the_input() -> None:
    spec = ModelOutput("y", DataType.FP32, (-1, 2))
    parts = scatter(spec, source(14), [source(1, 3), source(2, 2)], batching=True)
    assert [part.shape for part in parts] == [(1, 3, 2), (2, 2, 2)]


def test_strings_are_scattered_too() -> None:
    whole = Tensor.from_numpy("y", np.array([b"a", b"bc", b""], object), DataType.BYTES)
    parts = scatter(ModelOutput("y", DataType.BYTES, (-1,)), whole, [source(1, 1), source(1, 2)], batching=True)
    assert [part.as_numpy().tolist() for part in parts] == [[[b"a"]], [[b"bc", b""]]]


def test_an_output_of_another_size_than_its_requests_ask_for_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"output 'y' has 4 elements, its requests ask for 5 in shapes \[\[1, 2\], \["):
        scatter(Y, source(4), [source(1, 2), source(1, 3)], batching=True)


def test_a_reshape_is_the_models_own_shape() -> None:
    spec = ModelOutput("y", DataType.FP32, (1, -1), reshape=(-1,))
    assert [part.shape for part in scatter(spec, source(3), [source(1, 3)], batching=True)] == [(1, 3)]


def test_an_output_with_more_open_dimensions_than_its_source_is_an_error() -> None:
    spec = ModelOutput("y", DataType.FP32, (2, -1))
    with pytest.raises(ValueError, match=r"output 'y' of shape \[-1, 2, -1\] has more dimensions than 'x'"):
        scatter(spec, source(2), [source(1, 1)], batching=True)
