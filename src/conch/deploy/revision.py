"""Tells which commit a revision of a hub repository is: `python -m conch.deploy.revision OWNER/NAME[@REVISION]`.

A program of its own, so that a server can ask without loading the hub's library.
"""

from __future__ import annotations

import sys
from pathlib import Path

from conch.deploy.extras import huggingface_hub
from conch.deploy.source import hub_error
from conch.errors import ConchError, UnavailableError


def resolve(model: str) -> str:
    """The commit that `owner/name` or `owner/name@revision` names now; offline, the one that the hub's cache holds.

    Raises:
        ConchError: the hub does not know it or cannot be reached.
    """
    repo, _, revision = model.partition("@")
    hub = huggingface_hub()
    if hub.constants.HF_HUB_OFFLINE:
        found = hub.try_to_load_from_cache(repo, "config.json", revision=revision or None)
        if not isinstance(found, str):
            raise UnavailableError(f"'{model}' is not in the cache of the hub, and HF_HUB_OFFLINE is set")
        return Path(found).parent.name
    try:
        return str(hub.HfApi().model_info(repo, revision=revision or None).sha)
    except Exception as error:
        raise hub_error(model, error) from error


def main() -> int:
    """Print the commit; returns the exit code."""
    try:
        print(resolve(sys.argv[1]))
    except ConchError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
