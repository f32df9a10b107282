"""The framework behind a backend: imported at its first use."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from conch.errors import InvalidArgumentError


def import_library(module: str, extra: str) -> Any:
    """The module of that name, which `pip install 'conch[<extra>]'` brings.

    OpenVINO comes without its telemetry, which would report to Google from a process that it forks.

    Raises:
        InvalidArgumentError: it is not installed, or cannot be imported.
    """
    if module == "openvino":
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InvalidArgumentError(
            f"backend '{extra}' cannot import the package '{module}': {error}; try: pip install 'conch[{extra}]'"
        ) from error
