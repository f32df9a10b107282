"""The heads that clients send again and again, found by their bytes instead of parsed anew."""

from __future__ import annotations

from conch.wire.http.messages import RequestHead

#: Heads kept, and how large one may be: a bound on what clients can make the server remember.
_MAX_HEADS = 1024
MAX_HEAD_BYTES = 2048

#: What makes a head mean more than its own bytes say, or be followed by more than a body of known size.
_PECULIAR = (b"transfer-encoding", b"expect", b"upgrade", b"connection")


class KnownHeads:
    """Heads by their bytes, blank line included. One for all connections of a listener."""

    def __init__(self) -> None:
        self._heads: dict[bytes, RequestHead] = {}
        #: The head with these bytes, None for one that is not known.
        self.get = self._heads.get

    def learn(self, raw: bytes, head: RequestHead) -> None:
        """Remember a head that was parsed between two messages, if the same bytes always mean the same there."""
        if head.method != b"POST" or not head.keep_alive or head.is_http_1_0 or head.body_bytes < 0:
            return
        if any(name in head.headers for name in _PECULIAR):
            return
        # The parser may take a bare line feed for the end of a line, so that the head ended elsewhere.
        if not raw.startswith(b"POST ") or raw.count(b"\n") != raw.count(b"\r\n"):
            return
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        self._heads[raw] = head
