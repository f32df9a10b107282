"""Tensor bytes against their own shape; the texts are Triton's."""

from __future__ import annotations

import pytest

from conch.core.tensor_bytes import check_tensor_bytes
from conch.errors import InvalidArgumentError
from conch.tensor import DataType, Tensor


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("IN", DataType.FP32, (2,), b"12345678"),
        Tensor("IN", DataType.FP32, (0, 7), b""),
        Tensor("IN", DataType.FP16, (), b"12"),
        Tensor("IN", DataType.BYTES, (2,), b"\1\0\0\0a\0\0\0\0"),
        Tensor("IN", DataType.BYTES, (0,), b""),
    ],
)
def test_matching_bytes_pass(tensor: Tensor) -> None:
    check_tensor_bytes(tensor, "M", "")


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "text"),
    [
        (
            DataType.FP32,
            (2,),
            b"1234",
            "[request id: r] input byte size mismatch for input 'IN' for model 'M'. Expected 8, got 4",
        ),
        (
            DataType.BYTES,
            (2,),
            b"\1\0\0\0a",
            "[request id: r] expected 2 string elements for inference input 'IN' for model 'M', got 1",
        ),
        (
            DataType.BYTES,
            (1,),
            b"\0\0\0\0" * 3,
            "[request id: r] unexpected number of string elements 2 for inference input 'IN' for model 'M', "
            "expecting 1",
        ),
        (
            DataType.BYTES,
            (2,),
            b"\1\0\0\0a\1\0",
            "[request id: r] incomplete string length indicator for inference input 'IN' for model 'M', expecting 4 "
            "bytes but only 2 bytes available. Please make sure the string length indicator is in one buffer.",
        ),
        (
            DataType.BYTES,
            (1,),
            b"\xff\xff\xff\xff",
            "incomplete string data for inference input 'IN', expecting string of length 4294967295 but only 0 bytes "
            "available",
        ),
    ],
)
def test_bytes_that_do_not_fit_are_refused(datatype: DataType, shape: tuple[int, ...], data: bytes, text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_tensor_bytes(Tensor("IN", datatype, shape, data), "M", "r")
    assert caught.value.message == text


def test_a_request_without_id_is_called_unknown() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^\[request id: <id_unknown>\] input byte size"):
        check_tensor_bytes(Tensor("IN", DataType.INT8, (2,), b"1"), "M", "")
