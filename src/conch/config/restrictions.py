"""Which parts of a protocol are answered only to clients that send a certain header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from conch.errors import InvalidArgumentError

#: The parts that can be restricted, as `--http-restricted-api` and `--grpc-restricted-protocol` name them.
CATEGORIES = (
    "health",
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)


class Restriction(msgspec.Struct, frozen=True):
    """The header that opens a part: its name as it was written, and its value."""

    key: str
    value: str


def parse_restrictions(texts: Sequence[str], kind: str) -> Mapping[str, Restriction]:
    """Category -> what opens it, of texts `<category>[,<category>...]:<key>=<value>`.

    Args:
        kind: "api" or "protocol", as errors call a category.

    Raises:
        InvalidArgumentError: a text of another form, or a category that is unknown or named twice.
    """
    found: dict[str, Restriction] = {}
    for text in texts:
        categories, colon, setting = text.partition(":")
        key, equals, value = setting.partition("=")
        if not (categories and colon and key and equals and value):
            raise InvalidArgumentError(f"expected <{kind}>[,<{kind}>...]:<key>=<value>, got '{text}'")
        for category in categories.split(","):
            if category not in CATEGORIES:
                raise InvalidArgumentError(
                    f"unknown restricted {kind} '{category}'; those that can be are {', '.join(CATEGORIES)}"
                )
            if category in found:
                raise InvalidArgumentError(
                    f"restricted {kind} '{category}' can not be specified in multiple config groups"
                )
            found[category] = Restriction(key, value)
    return found
