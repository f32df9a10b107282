"""API keys: a file of keys, and whether one that a client presents is among them."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path

from conch.errors import InvalidArgumentError

_log = logging.getLogger(__name__)

#: The file is looked at again after this time.
_LOOK_S = 1.0


class ApiKeys:
    """The keys of a file: one a line, empty lines and those that begin with `#` left out.

    The file is read again when it has changed; while it cannot be read, or holds no key, the keys it held stay valid.
    Keys are kept and compared as digests, each with every one, so that the time taken tells nothing of them.

    Args:
        now: seconds that only grow.

    Raises:
        InvalidArgumentError: the file cannot be read, or holds no key.
    """

    def __init__(self, file: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._now = now
        self._looked_at = now()
        try:
            self._stamp = _stamp(file)
            self._digests = _read(file)
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(f"cannot read API keys from {file}: {error}") from error

    def admit(self, presented: bytes) -> bool:
        """Whether that is a key."""
        self._refresh()
        digest = hashlib.sha256(presented).digest()
        admitted = False
        for known in self._digests:
            admitted |= hmac.compare_digest(known, digest)
        return admitted

    def _refresh(self) -> None:
        now = self._now()
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        try:
            stamp = _stamp(self._file)
            if stamp == self._stamp:
                return
            self._digests = _read(self._file)
            self._stamp = stamp
            _log.info("read %d API keys from %s", len(self._digests), self._file)
        except (OSError, ValueError) as error:
            _log.error("keeping the API keys as they are, cannot read %s: %s", self._file, error)


def _stamp(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(file: Path) -> list[bytes]:
    keys = [line.strip() for line in file.read_bytes().splitlines()]
    digests = [hashlib.sha256(key).digest() for key in keys if key and not key.startswith(b"#")]
    if not digests:
        raise ValueError("it holds no key; expected one a line")
    return digests


def presented_key(authorization: bytes, x_api_key: bytes) -> bytes:
    """The key in the values of `Authorization: Bearer <key>` or `X-API-Key: <key>`; b"" for none."""
    scheme, _, credentials = authorization.strip().partition(b" ")
    return credentials.strip() if scheme.lower() == b"bearer" and credentials else x_api_key.strip()


#: What a client without a key is told, and one whose key is none.
KEY_MISSING = "an API key is needed: send it as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'"
KEY_UNKNOWN = "the API key is not one of this server's"
