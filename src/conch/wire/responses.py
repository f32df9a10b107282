"""The responses to one request, in order, for whoever takes them one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from conch.core.queue import RequestFuture
from conch.errors import CancelledError, ConchError
from conch.inference import InferResponse

#: Responses that may wait for a client which reads more slowly than its model answers.
_MAX_WAITING = 1 << 16


class Responses:
    """The responses to a request of a decoupled model, in order. The request is given up when nobody waits any more."""

    def __init__(self, answer: Awaitable[InferResponse]) -> None:
        self._queue: asyncio.Queue[InferResponse | ConchError | BaseException | None] = asyncio.Queue()
        self._overrun = False
        self._answer = asyncio.ensure_future(answer)
        if isinstance(self._answer, RequestFuture):
            self._answer.on_response = self._take
        self._answer.add_done_callback(self._ended)

    def _take(self, outcome: InferResponse | ConchError) -> None:
        if self._queue.qsize() < _MAX_WAITING:
            self._queue.put_nowait(outcome)
        else:
            self._overrun = True
            self._answer.cancel()

    def _ended(self, answer: asyncio.Future[InferResponse]) -> None:
        if answer.cancelled():
            why = f": the client left {_MAX_WAITING} responses unread" if self._overrun else ""
            self._queue.put_nowait(CancelledError(f"request was cancelled{why}"))
        elif (error := answer.exception()) is not None:
            self._queue.put_nowait(error)
        elif not answer.result().empty:
            self._queue.put_nowait(answer.result())
        self._queue.put_nowait(None)

    async def next(self) -> InferResponse | ConchError | None:
        """The next response, or error in its place; None when there are no more."""
        try:
            found = await self._queue.get()
        except asyncio.CancelledError:
            self._answer.cancel()
            raise
        if isinstance(found, BaseException) and not isinstance(found, ConchError):
            raise found
        return found

    def cancel(self) -> None:
        """Give the request up, if it has not ended."""
        self._answer.cancel()
