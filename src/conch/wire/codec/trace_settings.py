"""Trace settings as clients write and read them: texts, under the names of the trace extension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conch.core.api import ServerApi
from conch.core.tracing import Tracing
from conch.errors import ConchError, InvalidArgumentError, UnsupportedError
from conch.trace import TENSORS, TIMESTAMPS

#: Counts by the names of the extension -> the fields of `TraceSettings`.
NUMBERS = {"trace_rate": "rate", "trace_count": "count", "log_frequency": "log_frequency"}

_LEVELS = {"TIMESTAMPS": TIMESTAMPS, "TENSORS": TENSORS}
_LARGEST = 2**32 - 1
_LARGEST_COUNT = 2**31 - 1


def check_model(server: ServerApi, name: str) -> None:
    """Raise InvalidArgumentError where settings are asked of a model that does not serve."""
    if not name:
        return
    try:
        server.model(name, "")
    except ConchError as error:
        raise InvalidArgumentError(f"Request for unknown model : {name}") from error


def refuse_file() -> UnsupportedError:
    """The error for `trace_file`."""
    return UnsupportedError("trace file location can not be updated through network protocol")


def read_level(names: Sequence[str]) -> int | None:
    """The level of these names; None where none of them is known: the setting stays as it is.

    Raises:
        InvalidArgumentError: OFF stands beside others.
    """
    if "OFF" in names:
        if len(names) > 1:
            raise InvalidArgumentError("Expect only one trace level 'OFF' is specified")
        return 0
    return sum(level for name, level in _LEVELS.items() if name in names) or None


def read_number(name: str, text: str, colon: str = ": ") -> int:
    """The value of a setting in `NUMBERS`. As in Triton a negative rate or frequency wraps around to a large one.

    Args:
        colon: what stands before the value in the error about a negative count; the protocols differ in it.

    Raises:
        InvalidArgumentError: it is no number, or out of range.
    """
    try:
        value = int(text)
    except ValueError:
        raise InvalidArgumentError(f"Unable to parse '{name}', got: {text}") from None
    if name == "trace_count":
        if value < -1:
            raise InvalidArgumentError(f"Unable to parse '{name}'. Expecting value >= -1, got{colon}{text}")
        low, high = -(2**31), _LARGEST_COUNT
    else:
        low, high = 0, _LARGEST
        value = value % (_LARGEST + 1) if -_LARGEST <= value < 0 else value
    if not low <= value <= high:
        raise InvalidArgumentError(f"Unable to parse '{name}', value is out of range [ {low}, {high} ], got: {text}")
    return value


def described(tracing: Tracing, model_name: str) -> Mapping[str, str | Sequence[str]]:
    """What holds for a model ("" for all others), in the order in which Triton tells it."""
    settings, options = tracing.settings(model_name), tracing.options
    levels = [name for name, level in _LEVELS.items() if settings.level & level] or ["OFF"]
    shown: dict[str, str | Sequence[str]] = {
        "trace_level": levels,
        "trace_rate": str(settings.rate),
        "trace_count": str(settings.count),
    }
    if options.mode == "triton":
        return {
            **shown,
            "log_frequency": str(settings.log_frequency),
            "trace_file": options.file,
            "trace_mode": options.mode,
        }
    return {
        **shown,
        "trace_mode": options.mode,
        "url": options.url,
        "resource": ",".join(f"{key}={value}" for key, value in options.resource.items()),
    }
