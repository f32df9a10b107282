"""Time-outs of waiting requests in the log: one line now and then, however many there are."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from conch.core.clock import Clock
from conch.core.queue import Pending, described

logger = logging.getLogger("conch.core.scheduler")

#: Between two lines of a model; what comes meanwhile is counted in the next one.
INTERVAL_S = 10


class TimeOutLog:
    """Tells of the requests of one model that waited too long for an instance."""

    def __init__(self, model: str, clock: Clock) -> None:
        self._model = model
        self._clock = clock
        self._quiet_until_ns = 0
        self._untold = 0

    def tell(self, expired: Sequence[Pending]) -> None:
        """These are rejected as their time-out is over."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._quiet_until_ns:
            self._untold += len(expired)
            return
        self._quiet_until_ns = now_ns + INTERVAL_S * 1_000_000_000
        before = f"; {self._untold} more since the last such line" if self._untold else ""
        self._untold = 0
        logger.info(
            "model '%s': %s rejected after waiting in the queue longer than allowed%s",
            self._model, described(expired), before,
        )  # fmt: skip
