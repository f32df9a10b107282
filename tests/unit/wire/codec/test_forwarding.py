"""The pattern of headers that become parameters, which both protocols use."""

from __future__ import annotations

import pytest

from conch.errors import InvalidArgumentError
from conch.wire.codec.forwarding import header_pattern


def test_no_pattern_forwards_nothing() -> None:
    assert header_pattern("") is None


def test_names_match_anywhere_in_any_case() -> None:
    pattern = header_pattern("^X-|special")
    assert pattern is not None
    matching = [name for name in ("x-a", "X-A", "a-x-a", "My-Special-One") if pattern.search(name)]
    assert matching == ["x-a", "X-A", "My-Special-One"]


def test_what_is_no_regular_expression_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match=r"must be a regular expression, got '\(': "):
        header_pattern("(")
