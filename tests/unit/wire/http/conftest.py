"""A server for the tests of a module, and a fresh one for those that change its state."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.wire.http.harness import Served, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server shared by the tests of a module."""
    with serving() as running:
        yield running


@pytest.fixture
def own_served() -> Iterator[Served]:
    """A server of the test's own."""
    with serving() as running:
        yield running
