"""An instance that runs its engine in a thread of its own: frameworks drop the GIL while they compute.

What takes less than the way to the thread and back, is done on the event loop (see `conch.backends.quick`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar, cast

from conch.backend_api import BatchResult, InstanceSpec
from conch.backends.engine import BatchRunner, Engine
from conch.backends.quick import Quickness
from conch.errors import ConchError, InternalError, UnavailableError
from conch.inference import InferRequest

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: What the thread is given to do; None ends it.
_Work = Callable[[], None]


class ThreadedInstance:
    """One engine in one thread. The engine is made, used and freed in that thread.

    An engine that any thread may use runs on the event loop while its executions are quick.
    It cannot die: what the engine raises fails the batch and nothing else.

    Args:
        open_engine: loads the model; called in the thread, its errors are those of `start`.
    """

    def __init__(self, spec: InstanceSpec, open_engine: Callable[[], Engine]) -> None:
        self._name = spec.name
        self._config = spec.config
        self._open_engine = open_engine
        self._loop = asyncio.get_running_loop()
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._engine: Engine | None = None
        self._runner: BatchRunner | None = None
        self._quickness: Quickness | None = None
        self._closed = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a model that hangs must not keep the process from exiting.
        self._thread = threading.Thread(target=self._serve, name=f"conch {spec.name}", daemon=True)

    async def start(self) -> None:
        """Load the model. A start that fails or is cancelled leaves nothing behind.

        Raises:
            ConchError: the model does not load.
        """
        self._thread.start()
        try:
            await self._submit(self._open)
        except ConchError:
            await self.close()
            raise
        except asyncio.CancelledError:
            self._end()  # the thread goes on loading, and then frees what it has loaded
            raise

    def execute(self, requests: Sequence[InferRequest]) -> Awaitable[BatchResult]:
        """Run one batch; see the port."""
        runner = self._runner
        if self._closed or runner is None:
            failed: asyncio.Future[BatchResult] = self._loop.create_future()
            failed.set_exception(UnavailableError(f"instance '{self._name}' is closed"))
            return failed
        quickness = self._quickness
        if quickness is None:
            return self._submit(lambda: runner.run(requests))
        byte_size = sum([len(tensor.data) for request in requests for tensor in request.inputs])
        if not quickness.expects(byte_size):
            return self._submit(lambda: _run(runner, requests, quickness, byte_size, on_loop=False))
        done: asyncio.Future[BatchResult] = self._loop.create_future()
        result, error = self._attempt(lambda: _run(runner, requests, quickness, byte_size, on_loop=True))
        _settle(done, result, error)
        return done

    def on_idle_death(self, callback: Callable[[ConchError], None]) -> None:
        """Nothing to remember: a thread that executes nothing cannot die."""

    async def restart(self) -> None:
        """Nothing to do: the instance is up until it is closed.

        Raises:
            UnavailableError: it is closed.
        """
        if self._closed:
            raise UnavailableError(f"instance '{self._name}' is closed")

    async def close(self) -> None:
        """Free the model once the batch in hand has ended, and end the thread."""
        self._end()
        if self._thread.is_alive():
            await asyncio.shield(self._ended)
            self._thread.join()

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            self._work.put(None)

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have the thread do it and settle the future on the loop."""
        future: asyncio.Future[T] = self._loop.create_future()

        def run() -> None:
            self._call(_settle, future, *self._attempt(work))

        self._work.put(run)
        return future

    def _attempt(self, work: Callable[[], T]) -> tuple[T, None] | tuple[None, ConchError]:
        """What came of it: a result, or an error."""
        try:
            return work(), None
        except ConchError as error:
            return None, error
        except Exception as error:  # the boundary of the thread: nothing may end it
            logger.exception("instance %s failed unexpectedly", self._name)
            return None, InternalError(f"instance '{self._name}' failed: {error}")

    def _open(self) -> None:
        engine = self._open_engine()
        self._engine = engine
        if engine.any_thread:
            self._quickness = Quickness()
        self._runner = BatchRunner(self._config, engine)

    def _serve(self) -> None:
        """The thread."""
        while (work := self._work.get()) is not None:
            work()
            del work  # it holds the requests of its batch
        engine, self._engine, self._runner = self._engine, None, None
        if engine is not None:
            try:
                engine.close()
            except Exception:  # a framework can raise anything, and the thread is to end
                logger.exception("instance %s did not close its engine", self._name)
        self._call(_settle, self._ended, None, None)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            logger.debug("the event loop ended before instance %s", self._name)


def _run(
    runner: BatchRunner, requests: Sequence[InferRequest], quickness: Quickness, byte_size: int, *, on_loop: bool
) -> BatchResult:
    """Run a batch and take in what its network took; the work around it holds the GIL wherever it is done."""
    result = runner.run(requests)
    quickness.took(byte_size, result.compute_infer_ns, on_loop=on_loop)
    return result


def _settle(future: asyncio.Future[T], result: T | None, error: ConchError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(cast("T", result))
    else:
        future.set_exception(error)
