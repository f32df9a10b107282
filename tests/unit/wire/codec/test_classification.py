"""Top classes; the expected strings are what Triton 2.51 answers."""

from __future__ import annotations

import numpy as np
import pytest

from conch.errors import InternalError, InvalidArgumentError
from conch.tensor import DataType, Tensor, decode_bytes_elements
from conch.wire.codec.classification import classify


def _classes(
    values: object, datatype: DataType, k: int, *, batched: bool = False, labels: tuple[str, ...] = ()
) -> tuple[tuple[int, ...], list[str]]:
    tensor = Tensor.from_numpy("OUT", np.array(values, dtype=datatype.dtype), datatype)
    classes = classify(tensor, k, lambda index: labels[index] if index < len(labels) else "", batched)
    assert classes.datatype is DataType.BYTES
    assert classes.name == "OUT"
    return classes.shape, [e.decode() for e in decode_bytes_elements(classes.data, classes.element_count)]


def test_floats_are_printed_with_six_decimals() -> None:
    shape, classes = _classes([0.5, -1e10, 7], DataType.FP64, 3)
    assert shape == (3,)
    assert classes == ["7.000000:2", "0.500000:0", "-10000000000.000000:1"]


def test_integers_are_printed_as_such() -> None:
    assert _classes([5, -1, 7], DataType.INT8, 3)[1] == ["7:2", "5:0", "-1:1"]


@pytest.mark.parametrize("datatype", [DataType.UINT8, DataType.UINT64, DataType.INT64])
def test_extreme_integers_are_ordered(datatype: DataType) -> None:
    limits = np.iinfo(datatype.dtype)
    values = [0, limits.max, limits.min, 1]
    expected = sorted(range(4), key=lambda index: (-values[index], index))
    assert _classes(values, datatype, 4)[1] == [f"{values[index]}:{index}" for index in expected]


def test_equal_values_keep_the_order_of_their_indices() -> None:
    assert _classes([5, 5, 7, 5], DataType.INT8, 3)[1] == ["7:2", "5:0", "5:1"]
    many = [1] * 100
    assert _classes(many, DataType.INT32, 3)[1] == ["1:0", "1:1", "1:2"]


def test_labels_follow_where_there_are_any() -> None:
    assert _classes([1, 2, 3], DataType.INT32, 2, labels=("a", "b"))[1] == ["3:2", "2:1:b"]


def test_each_batch_entry_has_its_own_classes() -> None:
    shape, classes = _classes([[1, 2, 3], [6, 5, 4]], DataType.INT32, 2, batched=True)
    assert shape == (2, 2)
    assert classes == ["3:2", "2:1", "6:0", "5:1"]


def test_without_a_batch_all_dimensions_are_one_ranking() -> None:
    assert _classes([[1, 2], [4, 3]], DataType.INT32, 2) == ((2,), ["4:2", "3:3"])


def test_more_classes_than_there_are_give_all() -> None:
    assert _classes([1, 2], DataType.INT32, 9)[0] == (2,)


def test_few_of_many_are_found_without_sorting_all() -> None:
    values = np.random.default_rng(0).permutation(1000).astype(np.float32)
    expected = [f"{v:f}:{int(np.flatnonzero(values == v)[0])}" for v in (999.0, 998.0, 997.0)]
    assert _classes(values, DataType.FP32, 3)[1] == expected


def test_not_a_number_among_the_scores_still_gives_k_classes() -> None:
    assert len(_classes([float("nan")] * 40, DataType.FP32, 3)[1]) == 3
    assert _classes([float("nan"), 2.0, 1.0], DataType.FP32, 2)[1] == ["2.000000:1", "1.000000:2"]


def test_empty_scores_give_no_classes() -> None:
    assert _classes([], DataType.FP32, 3) == ((0,), [])


@pytest.mark.parametrize("datatype", [DataType.FP16, DataType.BF16, DataType.BOOL, DataType.BYTES])
def test_scores_that_cannot_be_ranked_are_refused(datatype: DataType) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        classify(Tensor("OUT", datatype, (1,), b"\1\0"), 1, lambda index: "", False)
    assert caught.value.message == (f"class result not available for output due to unsupported type '{datatype.value}'")


def test_data_that_does_not_fit_the_shape_is_the_models_fault() -> None:
    with pytest.raises(InternalError, match="output tensor shape does not match size of output for 'OUT'"):
        classify(Tensor("OUT", DataType.FP32, (3,), b"1234"), 1, lambda index: "", False)
