"""Which headers become request parameters: the pattern of both protocols."""

from __future__ import annotations

import re

from conch.errors import InvalidArgumentError


def header_pattern(pattern: str) -> re.Pattern[str] | None:
    """What is searched in names of headers, case ignored; None where `pattern` is "" and nothing is forwarded.

    Raises:
        InvalidArgumentError: it is no regular expression.
    """
    if not pattern:
        return None
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise InvalidArgumentError(
            f"the header forward pattern must be a regular expression, got '{pattern}': {error}"
        ) from error
