"""What makes two requests equal for the response cache."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from conch.core.cache_key import CacheKeys
from conch.inference import SEQUENCE_END, SEQUENCE_START, InferRequest, RequestedOutput
from conch.tensor import DataType, Tensor

KEYS = CacheKeys(b"model 1", ("OUTPUT0", "OUTPUT1"))
A = Tensor.from_numpy("A", np.arange(4, dtype=np.int32).reshape(1, 4), DataType.INT32)
B = Tensor("B", DataType.BYTES, (1, 1), b"\x01\x00\x00\x00x")
REQUEST = InferRequest("m", "", (A, B), parameters={"top_k": 5, "unit": "ms"})


def changed(**fields: object) -> InferRequest:
    return msgspec.structs.replace(REQUEST, **fields)


@pytest.mark.parametrize(
    "request_",
    [
        changed(id="7"),
        changed(priority=2),
        changed(timeout_us=5),
        changed(model_version="1"),
        changed(inputs=(B, A)),
        changed(parameters={"unit": "ms", "top_k": 5}),
        changed(inputs=(msgspec.structs.replace(A, data=bytes(A.data)), B)),
        changed(outputs=(RequestedOutput("OUTPUT1"), RequestedOutput("OUTPUT0"))),
        changed(outputs=(RequestedOutput("OUTPUT0", classification=3), RequestedOutput("OUTPUT1"))),
    ],
)
def test_what_the_answer_does_not_depend_on_is_not_in_the_key(request_: InferRequest) -> None:
    assert KEYS.key(request_) == KEYS.key(REQUEST)


@pytest.mark.parametrize(
    "request_",
    [
        changed(inputs=(A,)),
        changed(inputs=(msgspec.structs.replace(A, name="C"), B)),
        changed(inputs=(msgspec.structs.replace(A, shape=(4, 1)), B)),
        changed(inputs=(msgspec.structs.replace(A, datatype=DataType.FP32), B)),
        changed(inputs=(msgspec.structs.replace(A, data=bytes(16)), B)),
        changed(inputs=(A, msgspec.structs.replace(B, data=b"\x01\x00\x00\x00y"))),
        changed(parameters={}),
        changed(parameters={"top_k": 6, "unit": "ms"}),
        changed(parameters={"top_k": 5.0, "unit": "ms"}),
        changed(parameters={"top_k": "5", "unit": "ms"}),
        changed(outputs=(RequestedOutput("OUTPUT0"),)),
        changed(correlation_id=3),
        changed(correlation_id="3"),
        changed(flags=SEQUENCE_START),
        changed(flags=SEQUENCE_END),
    ],
)
def test_what_the_answer_may_depend_on_is_in_the_key(request_: InferRequest) -> None:
    assert KEYS.key(request_) != KEYS.key(REQUEST)


def test_true_and_one_are_different_parameters() -> None:
    assert KEYS.key(changed(parameters={"p": True})) != KEYS.key(changed(parameters={"p": 1}))


def test_bytes_do_not_move_from_one_input_to_the_next() -> None:
    first = (Tensor("A", DataType.UINT8, (2,), b"xy"), Tensor("B", DataType.UINT8, (1,), b"z"))
    second = (Tensor("A", DataType.UINT8, (1,), b"x"), Tensor("B", DataType.UINT8, (2,), b"yz"))
    assert KEYS.key(changed(inputs=first)) != KEYS.key(changed(inputs=second))


def test_models_with_different_namespaces_share_no_key() -> None:
    assert CacheKeys(b"model 2", ("OUTPUT0", "OUTPUT1")).key(REQUEST) != KEYS.key(REQUEST)


def test_a_parameter_of_any_text_and_any_number_has_a_key() -> None:
    odd = {"\ud800": "\udfff", "huge": 2**70, "nan": float("nan")}
    assert KEYS.key(changed(parameters=odd)) == KEYS.key(changed(parameters=odd))
