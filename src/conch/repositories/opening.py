"""From `--model-repository` to repositories: a directory, an object store or a checkpoint of the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from conch.core.repository import LocalRepository, Repository
from conch.errors import InvalidArgumentError
from conch.repositories.address import parse_address
from conch.repositories.credentials import read_credentials
from conch.repositories.hub import HubRepository
from conch.repositories.hub_url import parse_hub_url
from conch.repositories.object_store import ObjectStoreRepository

#: Where Triton is told to copy models to, by scheme.
_MOUNTS = {
    "s3": "TRITON_AWS_MOUNT_DIRECTORY",
    "gs": "TRITON_GCS_MOUNT_DIRECTORY",
    "as": "TRITON_AZURE_MOUNT_DIRECTORY",
}


def open_repository(location: str, cache: str, environment: Mapping[str, str]) -> Repository:
    """The repository at a location, which is a directory unless it has a scheme. Nothing is asked of anybody yet.

    Args:
        cache: `--repository-cache-directory`; "" for the one of the environment.

    Raises:
        InvalidArgumentError: there can be none; the text says what to write instead.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:
        if not Path(location).is_dir():
            raise InvalidArgumentError(
                f"model repository '{location}' is not a directory; try: conch deploy MODEL --model-repository "
                f"{location}"
            )
        return LocalRepository(location)
    if scheme == "file":
        return open_repository(rest, cache, environment)
    directory = cache_directory(cache, scheme, environment)
    if scheme == "hf":
        return HubRepository(location, parse_hub_url(location), directory / "hub")
    address = parse_address(location, read_credentials(environment), environment)
    return ObjectStoreRepository(location, address, directory)


def cache_directory(given: str, scheme: str, environment: Mapping[str, str]) -> Path:
    """Where copies lie: as given, as Triton's variables for the scheme say, or in the user's cache."""
    told = given or environment.get(_MOUNTS.get(scheme, ""), "")
    if told:
        return Path(told)
    base = environment.get("XDG_CACHE_HOME", "") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(base) / "conch" / "repositories"
