"""A thread that works for an event loop: one piece after the other, and the loop hears what came of each."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from conch.errors import ConchError, UnavailableError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class OwnThread:
    """One thread, for the event loop that is running.

    Args:
        name: whose thread it is, for debuggers and logs.
        failure: the error that an exception of the work ends with which is no ConchError; the exception is logged.

    Attributes:
        ending: whether it was told to end; it takes no more work then.
    """

    def __init__(self, name: str, failure: Callable[[BaseException], ConchError]) -> None:
        self._name = name
        self._failure = failure
        self._loop = asyncio.get_running_loop()
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # A daemon: work that never returns must not keep the process from exiting.
        self._thread = threading.Thread(target=self._serve, name=f"conch {name}", daemon=True)
        self._last: Callable[[], None] = lambda: None
        self.ending = False

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have the thread do it and settle the future on the loop; refused once it was told to end."""
        if self.ending:
            return self.refused()
        future: asyncio.Future[T] = self._loop.create_future()
        self._work.put(lambda: self.tell(settle, future, *self.attempt(work, BaseException)))
        return future

    def refused(self) -> asyncio.Future[Any]:
        """What becomes of work that comes after the end."""
        future: asyncio.Future[Any] = self._loop.create_future()
        future.set_exception(UnavailableError(f"{self._name} is closed"))
        return future

    def attempt(
        self, work: Callable[[], T], caught: type[BaseException] = Exception
    ) -> tuple[T, None] | tuple[None, ConchError]:
        """Do it here and now: its result, or the error it ends with. The thread itself survives whatever is raised."""
        try:
            return work(), None
        except ConchError as error:
            return None, error
        except caught as error:  # the boundary of the thread: work can raise anything
            logger.exception("%s failed unexpectedly", self._name)
            return None, self._failure(error)

    def tell(self, callback: Callable[..., None], *arguments: object) -> None:
        """Have the loop call that."""
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            logger.debug("the event loop ended before the thread of %s", self._name)

    def end(self, last: Callable[[], None] = lambda: None) -> None:
        """Let it end after the work in hand, and do `last` then. Idempotent."""
        if not self.ending:
            self.ending = True
            self._last = last
            self._work.put(None)

    async def ended(self) -> None:
        """Wait until it has ended, if it was ever started."""
        if self._thread.is_alive():
            await asyncio.shield(self._ended)
            self._thread.join()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # it holds the requests of its batch
        self.attempt(self._last, BaseException)
        self.tell(settle, self._ended, None, None)


def settle(future: asyncio.Future[T], result: T | None, error: ConchError | None) -> None:
    """Give a future that nobody has given up its result, or else its error."""
    if future.done():
        return
    if error is None:
        future.set_result(cast("T", result))
    else:
        future.set_exception(error)
