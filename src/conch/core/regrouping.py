"""Waiting a moment after a long execution for the clients it answered, so that they share the next batch again.

Clients that send their next request when they have the answer fall into groups otherwise: while one group is executed
the other waits, and each time an instance is free it takes the half that is there. With four clients and one instance
that settles at batches of one and three. The wait is a small part of the execution before it, ends as soon as as many
requests have come as were answered, and is given up where clients do not come back.
"""

from __future__ import annotations

#: Shorter executions are not worth a wait.
LONG_NS = 10_000_000

#: The wait is at most this part of the execution before it, and this long.
_PART = 32
_LONGEST_NS = 5_000_000

#: How much of those answered must have come back, lately and on average, for another wait.
_WORTH = 0.25
#: Without that, one wait in so many is tried nevertheless.
_RETRY = 16


class Regrouping:
    """Decides whether an instance that could execute waits for company.

    Attributes:
        awaited: how many clients the present wait is for; 0 where there is none.
        until_ns: when the present wait ends.
    """

    __slots__ = ("_came", "_skipped", "_worth", "awaited", "until_ns")

    def __init__(self) -> None:
        self.until_ns = 0
        self.awaited = 0
        self._came = 0
        self._worth = 1.0
        self._skipped = 0

    def executed(self, count: int, duration_ns: int, now_ns: int) -> None:
        """A batch of `count` requests is about to be answered."""
        self._end()
        if duration_ns < LONG_NS:
            return
        if self._worth < _WORTH and self._skipped < _RETRY:
            self._skipped += 1
            return
        self._skipped = 0
        self.awaited, self._came = count, 0
        self.until_ns = now_ns + min(duration_ns // _PART, _LONGEST_NS)

    def came(self) -> None:
        """A request has come."""
        self._came += 1

    def waits(self, now_ns: int) -> bool:
        """Whether to wait on."""
        if not self.awaited:
            return False
        if self._came >= self.awaited or now_ns >= self.until_ns:
            self._end()
            return False
        return True

    def _end(self) -> None:
        if self.awaited:
            self._worth += (min(self._came / self.awaited, 1.0) - self._worth) / 4
            self.awaited = 0
