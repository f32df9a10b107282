"""The server's end of a model's own `is_ready`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

from conch.backends.python.channel import Channel

logger = logging.getLogger(__name__)


class ReadinessChecks:
    """Asks one child. A question that is not answered yet is not asked again: later ones wait for its answer, too.

    Args:
        connection: the socket to the child; closed with it.
        name: tells the instance, for logs.
    """

    def __init__(self, connection: socket.socket, name: Callable[[], str]) -> None:
        self._name = name
        self._answer: asyncio.Future[bool] | None = None
        self._channel = Channel(connection, self._answered, self.close)
        #: Whether the model has an `is_ready`; without one it is ready.
        self.wanted = False

    async def ask(self, timeout_s: float) -> bool:
        """Whether the model says that it is ready; one that does not answer in time is not."""
        if not self.wanted:
            return True
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
            self._channel.send(())
        answer = self._answer
        try:
            return await asyncio.wait_for(asyncio.shield(answer), timeout_s)
        except TimeoutError:
            self._channel.drain()  # the loop may have stood still itself, and the answer be there
            if answer.done():
                return answer.result()
            logger.warning("%s: is_ready() did not answer within %g s", self._name(), timeout_s)
            return False

    def close(self) -> None:
        """The child is gone, and not ready."""
        self._channel.close()
        self._settle(False)

    def _answered(self, answer: Any) -> None:
        ready, problem = answer
        if problem:
            logger.warning("%s: %s", self._name(), problem)
        self._settle(bool(ready))

    def _settle(self, ready: bool) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(ready)
