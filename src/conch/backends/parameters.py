"""Values of `parameters` and of `--backend-config`: strings that mean numbers and switches, in Triton's spelling."""

from __future__ import annotations

from collections.abc import Mapping

from conch.errors import InvalidArgumentError

_TRUE = frozenset({"true", "yes", "1", "on"})
_FALSE = frozenset({"false", "no", "0", "off", ""})


def parse_bool(key: str, text: str) -> bool:
    """Raises InvalidArgumentError for anything but true/false, yes/no, on/off, 1/0 in any case."""
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise InvalidArgumentError(f"parameter '{key}': failed to convert '{text}' to boolean; use true or false")


def parse_int(key: str, text: str, *, minimum: int = 0) -> int:
    """Raises InvalidArgumentError for anything but an integer >= `minimum`."""
    try:
        value = int(text)
    except ValueError:
        raise InvalidArgumentError(f"parameter '{key}': failed to convert '{text}' to integral number") from None
    if value < minimum:
        raise InvalidArgumentError(f"parameter '{key}': expected a number >= {minimum}, got {value}")
    return value


def bool_of(values: Mapping[str, str], key: str, default: bool) -> bool:
    """The switch of that name, `default` without one."""
    return parse_bool(key, values[key]) if key in values else default


def int_of(values: Mapping[str, str], key: str, default: int) -> int:
    """The number of that name (>= 0), `default` without one."""
    return parse_int(key, values[key]) if key in values else default
