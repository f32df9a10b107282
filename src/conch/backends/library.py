"""The framework behind a backend: imported at its first use."""

from __future__ import annotations

import importlib
from typing import Any

from conch.errors import InvalidArgumentError


def import_library(module: str, extra: str) -> Any:
    """The module of that name, which `pip install 'conch[<extra>]'` brings.

    Raises:
        InvalidArgumentError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InvalidArgumentError(
            f"backend '{extra}' cannot import the package '{module}': {error}; try: pip install 'conch[{extra}]'"
        ) from error
