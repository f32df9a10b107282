"""An event loop in a thread of its own, for callers that have none or must not wait on theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class EventLoopThread:
    """Runs from construction until `stop`. Its methods may be called from every thread but its own.

    Args:
        new_event_loop: makes the loop; None for asyncio's own.
    """

    def __init__(self, name: str, new_event_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self._new_event_loop = new_event_loop
        started: Future[asyncio.AbstractEventLoop] = Future()
        # A daemon: a program that forgets to stop its server must still be able to end.
        self._thread = threading.Thread(target=self._run, args=(started,), name=name, daemon=True)
        self._thread.start()
        self.loop = started.result()

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """What the function returns, called on the loop; its exceptions are raised here."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function(*arguments))
            except BaseException as error:
                done.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return done.result()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """What the coroutine returns, run on the loop. It is cancelled when the caller is interrupted.

        Raises:
            TimeoutError: it took longer than `timeout_s`.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop and the thread; tasks that still run are cancelled."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=self._new_event_loop) as runner:
            loop = runner.get_loop()
            asyncio.set_event_loop(loop)
            loop.call_soon(started.set_result, loop)
            loop.run_forever()
