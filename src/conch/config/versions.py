"""Version directories: which names count as versions, and which of them a version policy serves."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from pathlib import Path

from conch.config.schema import VersionPolicy

logger = logging.getLogger("conch.config.versions")

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_MAX_VERSION = 2**63 - 1

#: Directories that belong beside the versions of a model; no version, and nothing to warn about.
_COMPANIONS = frozenset({"configs", "warmup", "initial_state", "checkpoint"})


def available_versions(directory: Path) -> list[int]:
    """The version numbers of a model's directory, ascending. Directories that are no version are logged and left out.

    Raises:
        OSError: the directory cannot be read.
    """
    found: list[int] = []
    for entry in sorted(directory.iterdir()):
        name = entry.name
        if name in _COMPANIONS or name.startswith((".", "__")) or not entry.is_dir():
            continue
        if not _DIGITS.fullmatch(name) or int(name) > _MAX_VERSION:
            logger.warning("ignore version directory '%s' which fails to convert to integral number", name)
        elif name != "0" and name.startswith("0"):
            logger.warning("ignore version directory '%s' which contains leading zeros in its directory name", name)
        else:
            found.append(int(name))
    return sorted(found)


def select_versions(policy: VersionPolicy, available: Collection[int], model_name: str = "") -> list[int]:
    """The versions a policy serves out of those available, ascending; empty when there is none.

    A version named by a specific policy that is not available is logged as an error.
    """
    if policy.specific is not None:
        for version in policy.specific:
            if version not in available:
                of_model = f" for model '{model_name}'" if model_name else ""
                logger.error("version %d is specified%s, but the version directory is not present", version, of_model)
        return sorted(set(policy.specific) & set(available))
    ordered = sorted(set(available))
    if policy.latest is not None:
        return ordered[max(len(ordered) - policy.latest, 0) :]
    return ordered
