"""Request parameters: those with a meaning of their own become fields, the others stay custom parameters."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conch.errors import InternalError, InvalidArgumentError
from conch.inference import SEQUENCE_END, SEQUENCE_START, Parameter, checked_correlation_id

_UINT64_MAX = 2**64 - 1
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


class RequestFields(msgspec.Struct, frozen=True):
    """The parameters of a request, split; named as the fields of `InferRequest` they become.

    `custom` holds what is left, integers beyond int64 as floats.
    """

    correlation_id: int | str = 0
    flags: int = 0
    priority: int = 0
    timeout_us: int = 0
    custom: Mapping[str, Parameter] = {}
    empty_final: bool = False


NO_FIELDS = RequestFields()


def split_parameters(parameters: Mapping[str, Parameter]) -> RequestFields:
    """Split request parameters into fields and custom parameters.

    Values of any type are accepted at run time and checked here, since JSON does not promise scalars.

    Raises:
        InternalError: a parameter with a meaning has the wrong type (Triton's code for it, too).
        InvalidArgumentError: a key starts with `triton_`, or a value is neither bool, number nor string.
        UnsupportedError: a sequence's id is too long.
    """
    if not parameters:
        return NO_FIELDS
    correlation_id: int | str = 0
    flags = priority = timeout_us = 0
    custom: dict[str, Parameter] = {}
    for name, value in parameters.items():
        if name == "sequence_id":
            correlation_id = _sequence_id(value)
        elif name == "sequence_start":
            flags |= SEQUENCE_START if _boolean(name, value) else 0
        elif name == "sequence_end":
            flags |= SEQUENCE_END if _boolean(name, value) else 0
        elif name == "priority":
            priority = _unsigned(name, value)
        elif name == "timeout":
            timeout_us = _unsigned(name, value)
        else:
            custom[name] = custom_parameter(name, value)
    return RequestFields(correlation_id, flags, priority, timeout_us, custom)


def custom_parameter(name: str, value: object) -> Parameter:
    """One custom parameter, checked.

    Raises:
        InvalidArgumentError: the name is reserved, or the value is neither bool, number nor string.
    """
    if name.startswith("triton_"):
        raise InvalidArgumentError(
            "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified."
        )
    return scalar_parameter(name, value)


def scalar_parameter(name: str, value: object) -> Parameter:
    """One parameter of any name, its value checked; integers beyond int64 become floats.

    Raises:
        InvalidArgumentError: the value is neither bool, number nor string.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 1024:
        return value if _INT64_MIN <= value <= _INT64_MAX else float(value)
    if isinstance(value, bool | float | str):
        return value
    raise InvalidArgumentError(f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'.")


def _sequence_id(value: object) -> int | str:
    if isinstance(value, str):
        return checked_correlation_id(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _UINT64_MAX:
        return value
    raise InternalError("Unable to parse 'sequence_id': attempt to access JSON non-string as string")


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InternalError(f"Unable to parse '{name}': attempt to access JSON non-boolean as boolean")


def _unsigned(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _UINT64_MAX:
        return value
    raise InternalError(f"Unable to parse '{name}': attempt to access JSON non-unsigned-integer as unsigned-integer")
