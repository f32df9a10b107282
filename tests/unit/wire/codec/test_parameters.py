"""Request parameters, split into fields and custom ones."""

from __future__ import annotations

from typing import Any

import pytest

from conch.errors import ConchError, InternalError, InvalidArgumentError, UnsupportedError
from conch.inference import SEQUENCE_END, SEQUENCE_START
from conch.wire.codec.parameters import RequestFields, split_parameters


def test_parameters_with_a_meaning_become_fields_and_the_others_stay_custom() -> None:
    fields = split_parameters(
        {
            "sequence_id": 3,
            "sequence_start": True,
            "sequence_end": True,
            "priority": 2,
            "timeout": 77,
            "text": "x",
            "flag": True,
            "number": -3,
            "real": 1.5,
        }
    )
    assert fields == RequestFields(
        3, SEQUENCE_START | SEQUENCE_END, 2, 77, {"text": "x", "flag": True, "number": -3, "real": 1.5}
    )


def test_false_sequence_flags_set_nothing() -> None:
    assert split_parameters({"sequence_start": False, "sequence_end": False}).flags == 0


@pytest.mark.parametrize("sequence_id", [0, 2**64 - 1, "abc", "", "x" * 128, "ä" * 64])
def test_sequence_id_is_unsigned_or_text(sequence_id: int | str) -> None:
    assert split_parameters({"sequence_id": sequence_id}).correlation_id == sequence_id


def test_integers_beyond_int64_become_floats() -> None:
    custom = split_parameters({"a": 2**63, "b": 2**63 - 1}).custom
    assert custom == {"a": float(2**63), "b": 2**63 - 1}
    assert type(custom["a"]) is float


_NOT_BOOL = "attempt to access JSON non-boolean as boolean"
_NOT_UNSIGNED = "attempt to access JSON non-unsigned-integer as unsigned-integer"
_NOT_STRING = "attempt to access JSON non-string as string"


@pytest.mark.parametrize(
    ("parameters", "error", "text"),
    [
        ({"sequence_id": -1}, InternalError, f"Unable to parse 'sequence_id': {_NOT_STRING}"),
        ({"sequence_id": 2**64}, InternalError, f"Unable to parse 'sequence_id': {_NOT_STRING}"),
        ({"sequence_id": 1.5}, InternalError, f"Unable to parse 'sequence_id': {_NOT_STRING}"),
        ({"sequence_id": True}, InternalError, f"Unable to parse 'sequence_id': {_NOT_STRING}"),
        ({"sequence_id": "x" * 129}, UnsupportedError, "string correlation ID cannot be longer than 128 characters"),
        ({"sequence_id": "ä" * 65}, UnsupportedError, "string correlation ID cannot be longer than 128 characters"),
        ({"sequence_start": 1}, InternalError, f"Unable to parse 'sequence_start': {_NOT_BOOL}"),
        ({"sequence_end": "x"}, InternalError, f"Unable to parse 'sequence_end': {_NOT_BOOL}"),
        ({"priority": -1}, InternalError, f"Unable to parse 'priority': {_NOT_UNSIGNED}"),
        ({"priority": True}, InternalError, f"Unable to parse 'priority': {_NOT_UNSIGNED}"),
        ({"timeout": 1.5}, InternalError, f"Unable to parse 'timeout': {_NOT_UNSIGNED}"),
        (
            {"triton_x": 1},
            InvalidArgumentError,
            "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
        ),
        *(
            (
                {"a": value},
                InvalidArgumentError,
                "parameter 'a' has invalid type. It should be either 'int', 'bool', or 'string'.",
            )
            for value in ([1], {}, None, 10**400)
        ),
    ],
)
def test_wrong_parameters_are_refused_with_tritons_texts(
    parameters: dict[str, Any], error: type[ConchError], text: str
) -> None:
    with pytest.raises(error) as caught:
        split_parameters(parameters)
    assert caught.value.message == text
