"""Parameters between their protobuf form and plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conch.errors import InvalidArgumentError
from conch.inference import SEQUENCE_END, SEQUENCE_START, Parameter, checked_correlation_id
from conch.wire.codec.parameters import NO_FIELDS, RequestFields

#: The one reserved parameter a client may set. It speaks of decoupled models only.
EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"


def request_fields(parameters: Mapping[str, Any], forwarded: Mapping[str, str]) -> RequestFields:
    """A request's parameters (name -> InferParameter), and the headers forwarded as custom parameters, split.

    Raises:
        InvalidArgumentError: a type or value is wrong, or a name is reserved; in Triton's words.
        UnsupportedError: a sequence's id is too long.
    """
    if not parameters and not forwarded:
        return NO_FIELDS
    correlation_id: int | str = 0
    flags = priority = timeout_us = 0
    empty_final = False
    custom: dict[str, Parameter] = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if name == "sequence_id":
            _check(name, kind, "int64_param", "string_param")
            value = getattr(parameter, kind)
            correlation_id = checked_correlation_id(value if isinstance(value, str) else value & (2**64 - 1))
        elif name in ("sequence_start", "sequence_end"):
            _check(name, kind, "bool_param")
            if parameter.bool_param:
                flags |= SEQUENCE_START if name == "sequence_start" else SEQUENCE_END
        elif name == "priority":
            _check(name, kind, "int64_param", "uint64_param")
            priority = _natural(name, getattr(parameter, kind))
        elif name == "timeout":
            _check(name, kind, "int64_param")
            timeout_us = _natural(name, parameter.int64_param)
        elif name.startswith("triton_"):
            _check_reserved(name, kind)
            empty_final = parameter.bool_param
        elif kind in ("int64_param", "bool_param", "string_param", "double_param"):
            custom[name] = getattr(parameter, kind)
        else:
            raise InvalidArgumentError(
                f"invalid value type for '{name}' parameter, expected int64_param, bool_param, or string_param."
            )
    custom.update(forwarded)
    return RequestFields(correlation_id, flags, priority, timeout_us, custom, empty_final)


def set_parameter(target: Any, value: Parameter) -> None:
    """Give a protobuf parameter a value."""
    if isinstance(value, bool):
        target.bool_param = value
    elif isinstance(value, int):
        if value >= 2**63:
            target.uint64_param = value
        else:
            target.int64_param = value
    elif isinstance(value, float):
        target.double_param = value
    else:
        target.string_param = value


def _check(name: str, kind: str | None, *expected: str) -> None:
    if kind not in expected:
        raise InvalidArgumentError(f"invalid value type for '{name}' parameter, expected {' or '.join(expected)}.")


def _natural(name: str, value: int) -> int:
    if value < 0:
        raise InvalidArgumentError(f"invalid value for '{name}', expected value >= 0.")
    return value


def _check_reserved(name: str, kind: str | None) -> None:
    if name != EMPTY_FINAL_RESPONSE:
        raise InvalidArgumentError(
            "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys starting "
            f"with 'triton_' are allowed: {EMPTY_FINAL_RESPONSE}"
        )
    _check(name, kind, "bool_param")
