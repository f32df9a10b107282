"""Arrays to tensors and back."""

from __future__ import annotations

import numpy as np
import pytest

from conch.errors import InvalidArgumentError
from conch.inprocess.tensors import datatype_of, to_arrays, to_tensors
from conch.tensor import DataType


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        (np.float32, DataType.FP32),
        ("BF16", DataType.BF16),
        (bytes, DataType.BYTES),
        (str, DataType.BYTES),
        (object, DataType.BYTES),
        (bool, DataType.BOOL),
        (np.dtype(">i4"), DataType.INT32),
        (DataType.UINT8, DataType.UINT8),
    ],
)
def test_a_dtype_has_its_datatype(dtype: object, datatype: DataType) -> None:
    assert datatype_of(dtype) is datatype


@pytest.mark.parametrize("dtype", [np.complex64, "datetime64[s]", "no such type"])
def test_a_dtype_without_a_datatype_is_refused(dtype: object) -> None:
    with pytest.raises(InvalidArgumentError, match="dtype"):
        datatype_of(dtype)


def test_arrays_survive_the_way_there_and_back() -> None:
    given = {
        "numbers": np.arange(6, dtype=np.int64).reshape(2, 3),
        "swapped": np.array([1, 2], dtype=">f4"),
        "strided": np.arange(8, dtype=np.float32)[::2],
        "texts": np.array(["a", "ä"]),
        "empty": np.empty((0, 4), np.float16),
    }
    back = to_arrays(to_tensors(given))
    assert list(back) == list(given)
    for name in ("numbers", "swapped", "strided", "empty"):
        np.testing.assert_array_equal(back[name], given[name])
        assert back[name].shape == given[name].shape
    assert back["texts"].tolist() == [b"a", "ä".encode()]


def test_sequences_become_arrays() -> None:
    (tensor,) = to_tensors({"words": [["a", "b"]]})
    assert (tensor.datatype, tensor.shape) == (DataType.BYTES, (1, 2))


def test_what_is_no_tensor_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgumentError, match="input 'x': dtype complex128 has no datatype"):
        to_tensors({"x": np.ones(1, complex)})
