"""Holding batches back until so many requests wait, once: what makes the batches of a scheduler's test predictable."""

from __future__ import annotations

import msgspec


class Holds(msgspec.Struct, frozen=True):
    """How many requests a scheduler waits for before its first batch; 0 for none.

    Attributes:
        queued: requests that could be sent (`TRITONSERVER_DELAY_SCHEDULER`).
        backlog: beside them, requests of sequences that wait for a slot (`TRITONSERVER_BACKLOG_DELAY_SCHEDULER`).
    """

    queued: int = 0
    backlog: int = 0


#: Nothing is kept back.
NO_HOLDS = Holds()


class BatchHold:
    """Keeps batches back until there are as many requests as were asked for; from then on it keeps nothing back.

    Attributes:
        active: whether anything is kept back still.
    """

    __slots__ = ("_backlog", "_queued", "active")

    def __init__(self, queued: int, backlog: int = 0) -> None:
        self._queued = queued
        self._backlog = backlog
        self.active = queued > 0

    def keeps(self, queued: int, backlog: int = 0) -> bool:
        """Whether to wait on, with so many requests waiting."""
        if queued < self._queued or backlog < self._backlog:
            return True
        self._queued = 0
        self.active = False
        return False
