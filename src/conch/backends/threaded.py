"""An instance that runs its engine in a thread of its own: frameworks drop the GIL while they compute.

What takes less than the way to the thread and back, is done on the event loop (see `conch.backends.quick`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from conch.backend_api import BatchResult, InstanceSpec
from conch.backends.engine import BatchRunner, Engine
from conch.backends.own_thread import OwnThread, settle
from conch.backends.quick import Quickness
from conch.errors import ConchError, InternalError, UnavailableError
from conch.inference import InferRequest


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
        self._engine: Engine | None = None
        self._runner: BatchRunner | None = None
        self._quickness: Quickness | None = None
        self._thread = OwnThread(
            f"instance {spec.name}", lambda error: InternalError(f"instance '{spec.name}' failed: {error}")
        )

    async def start(self) -> None:
        """Load the model. A start that fails or is cancelled leaves nothing behind.

        Raises:
            ConchError: the model does not load.
        """
        self._thread.start()
        try:
            await self._thread.submit(self._open)
        except ConchError:
            await self.close()
            raise
        except asyncio.CancelledError:
            self._thread.end(self._free)  # it goes on loading, and then frees what it has loaded
            raise

    def execute(self, requests: Sequence[InferRequest]) -> Awaitable[BatchResult]:
        """Run one batch; see the port."""
        runner = self._runner
        if self._thread.ending or runner is None:
            return self._thread.refused()
        quickness = self._quickness
        if quickness is None:
            return self._thread.submit(lambda: runner.run(requests))
        byte_size = sum([len(tensor.data) for request in requests for tensor in request.inputs])
        if not quickness.expects(byte_size):
            return self._thread.submit(lambda: _run(runner, requests, quickness, byte_size, on_loop=False))
        done: asyncio.Future[BatchResult] = self._loop.create_future()
        settle(done, *self._thread.attempt(lambda: _run(runner, requests, quickness, byte_size, on_loop=True)))
        return done

    def on_idle_death(self, callback: Callable[[ConchError], None]) -> None:
        """Nothing to remember: a thread that executes nothing cannot die."""

    async def restart(self) -> None:
        """Nothing to do: the instance is up until it is closed.

        Raises:
            UnavailableError: it is closed.
        """
        if self._thread.ending:
            raise UnavailableError(f"instance '{self._name}' is closed")

    async def close(self) -> None:
        """Free the model once the batch in hand has ended, and end the thread."""
        self._thread.end(self._free)
        await self._thread.ended()

    def _open(self) -> None:
        engine = self._open_engine()
        self._engine = engine
        if engine.any_thread:
            self._quickness = Quickness()
        self._runner = BatchRunner(self._config, engine)

    def _free(self) -> None:
        engine, self._engine, self._runner = self._engine, None, None
        if engine is not None:
            engine.close()


def _run(
    runner: BatchRunner, requests: Sequence[InferRequest], quickness: Quickness, byte_size: int, *, on_loop: bool
) -> BatchResult:
    """Run a batch and take in what its network took; the work around it holds the GIL wherever it is done."""
    result = runner.run(requests)
    quickness.took(byte_size, result.compute_infer_ns, on_loop=on_loop)
    return result
