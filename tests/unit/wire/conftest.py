"""What tests of both protocols share."""

from __future__ import annotations

import pytest

from tests.unit.wire.certificates import Pair, make_pair


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    directory = tmp_path_factory.mktemp("certificates")
    root = make_pair(directory, "root", None)
    made = {"root": root, "stranger": make_pair(directory, "stranger", None)}
    return made | {name: make_pair(directory, name, root) for name in ("server", "client")}
