"""Credentials of object stores: Triton's file of them, and the variables that Triton reads where it has none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conch.errors import InvalidArgumentError

#: Names the file, in Triton and here.
VARIABLE = "TRITON_CLOUD_CREDENTIAL_PATH"


class Credentials:
    """What `TRITON_CLOUD_CREDENTIAL_PATH` names: scheme ("s3", "gs", "as") -> start of a URL -> credential.

    The longest start that fits counts; "" fits every URL.
    """

    def __init__(self, document: Mapping[str, Mapping[str, Any]]) -> None:
        self._document = document

    def of(self, scheme: str, url: str) -> Any:
        """The credential for that URL; None where the file has none."""
        fitting = [start for start in self._document.get(scheme, {}) if url.startswith(start)]
        return self._document[scheme][max(fitting, key=len)] if fitting else None


def read_credentials(environment: Mapping[str, str]) -> Credentials | None:
    """The credentials of the file that the environment names; None where it names none.

    Raises:
        InvalidArgumentError: the file cannot be read or is of another form; the text names the place, never a secret.
    """
    path = environment.get(VARIABLE, "")
    if not path:
        return None
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise InvalidArgumentError(f"{VARIABLE}: cannot read '{path}': {reason}") from None
    if not isinstance(document, dict):
        raise InvalidArgumentError(f"{VARIABLE}: '{path}' must hold an object with the keys s3, gs and as")
    for scheme, entries in document.items():
        if not isinstance(entries, dict):
            raise InvalidArgumentError(f"{VARIABLE}: '{scheme}' in '{path}' must be an object: URL -> credential")
        for start, credential in entries.items():
            _check(credential, f"{VARIABLE}: the credential of '{start}' under '{scheme}' in '{path}'", scheme)
    return Credentials(document)


def _check(credential: object, what: str, scheme: str) -> None:
    if scheme == "gs":
        if not isinstance(credential, str):
            raise InvalidArgumentError(f"{what} must be the path of a key file")
    elif not isinstance(credential, dict) or not all(isinstance(value, str) for value in credential.values()):
        raise InvalidArgumentError(f"{what} must be an object of strings")
