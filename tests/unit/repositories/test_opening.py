"""Which repository a location is."""

from __future__ import annotations

from pathlib import Path

import pytest

from conch.core.repository import LocalRepository
from conch.errors import InvalidArgumentError
from conch.repositories.hub import HubRepository
from conch.repositories.object_store import ObjectStoreRepository
from conch.repositories.opening import cache_directory, open_repository


def test_the_scheme_tells_the_kind(tmp_path: Path) -> None:
    kinds = {
        str(tmp_path): LocalRepository,
        f"file://{tmp_path}": LocalRepository,
        "s3://bucket/models": ObjectStoreRepository,
        "gs://bucket/models": ObjectStoreRepository,
        "as://account/container/models": ObjectStoreRepository,
        "memory://models": ObjectStoreRepository,
        "hf://org/name": HubRepository,
    }
    for location, kind in kinds.items():
        repository = open_repository(location, str(tmp_path), {})
        assert type(repository) is kind
        assert repository.location == location.removeprefix("file://")


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a directory; try: conch deploy MODEL --model-repository"):
        open_repository(str(tmp_path / "none"), "", {})


def test_copies_lie_where_the_flag_the_variable_or_the_user_says() -> None:
    environment = {"TRITON_AWS_MOUNT_DIRECTORY": "/mount", "XDG_CACHE_HOME": "/cache"}
    assert cache_directory("/flag", "s3", environment) == Path("/flag")
    assert cache_directory("", "s3", environment) == Path("/mount")
    assert cache_directory("", "gs", environment) == Path("/cache/conch/repositories")
    assert cache_directory("", "hf", {}) == Path("~/.cache/conch/repositories").expanduser()
