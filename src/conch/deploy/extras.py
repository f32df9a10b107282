"""The heavy libraries of `conch[hf]`, imported when they are needed and named when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from conch.errors import UnavailableError


def require(name: str, package: str = "") -> Any:
    """The module of that name.

    Raises:
        UnavailableError: it is not installed; the text says what to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = package or (error.name or name).split(".")[0]
        text = f"this needs the Python package '{missing}', which is not installed: pip install \"conch[hf]\""
        if package:
            text += f" {package}"
        raise UnavailableError(text) from error


def transformers() -> Any:
    require("torch")
    return require("transformers")


def huggingface_hub() -> Any:
    return require("huggingface_hub")
