"""What a model version expects of its scheduler, and a scheduler of its model version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from conch.backend_api import Output
from conch.core.queue import Pending
from conch.core.stats import ModelStats
from conch.inference import InferResponse

#: Makes the response to a request out of what the model answered; its errors (ConchError) become the request's.
Respond = Callable[[Pending, Output], InferResponse]


class Scheduling(Protocol):
    """Brings requests to where they are executed: to instances of a model, or to the steps of an ensemble."""

    @property
    def in_flight(self) -> int:
        """Requests submitted and not yet settled."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether requests can be executed."""
        ...

    def submit(self, pending: Pending) -> None:
        """Take a request; its future is settled at once or later, and `on_settled` called then.

        Raises:
            ConchError: it is not taken.
        """
        ...

    async def drain(self) -> None:
        """Wait until every submitted request has ended."""
        ...

    async def close(self) -> None:
        """Take nothing more, fail what still waits, free what executes."""
        ...


#: Makes the scheduler of a model version that counts in these statistics and answers by this function.
MakeScheduling = Callable[[ModelStats, Respond], Scheduling]
