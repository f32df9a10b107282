"""A scheduler before a scheduler: answers from the response cache what it can, and passes on the rest.

Equal requests that are in flight at the same time are executed once: the first is passed on, the others wait for its
answer. Whoever gives up leaves the others alone; when nobody is left the request that was passed on is cancelled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from functools import partial

import msgspec

from conch.config.schema import ModelConfig
from conch.core.cache import CachedResponse, ModelCache
from conch.core.cache_key import CacheKeys
from conch.core.clock import Clock
from conch.core.draining import Drain
from conch.core.queue import Pending, RequestFuture, nothing
from conch.core.scheduling import Scheduling
from conch.core.stats import ModelStats
from conch.errors import BackendError, CancelledError, ConchError, FailureReason
from conch.inference import InferResponse, Parameter
from conch.tensor import Tensor

#: Inputs larger than this are hashed in a thread: 256 KiB take 0.2 ms, about what handing them to a thread costs.
LARGEST_HASHED_HERE_BYTES = 256 << 10

#: Equal requests share an execution only if they would also have the same place and time-out in the queue.
FlightKey = tuple[bytes, int, int]


class _Waiter:
    """A request and the future its client waits for.

    Attributes:
        flight: the execution it waits for, once there is one.
        lookup_ns: when its key was looked up.
        accepted: whether `submit` has returned, so that an error can no longer be raised there.
        outcome: with preserve_ordering, what it ended with while it waits for those before it.
    """

    __slots__ = ("accepted", "flight", "future", "lookup_ns", "outcome", "pending")

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        self.future = pending.future
        self.flight: _Flight | None = None
        self.lookup_ns = 0
        self.accepted = False
        self.outcome: InferResponse | ConchError | None = None


class _Flight:
    """One execution; the scheduler behind counts it as that of the first waiter.

    Attributes:
        lookup_ns: what it took to find out that the first waiter has to be executed.
    """

    __slots__ = ("future", "key", "lookup_ns", "waiters")

    def __init__(self, key: FlightKey, future: RequestFuture, leader: _Waiter, lookup_ns: int) -> None:
        self.key = key
        self.lookup_ns = lookup_ns
        self.future = future
        self.waiters = [leader]


class CachedScheduler:
    """Stands before the scheduler of one model version and is closed with it."""

    def __init__(
        self,
        scheduler: Scheduling,
        cache: ModelCache,
        config: ModelConfig,
        version: int,
        stats: ModelStats,
        clock: Clock,
    ) -> None:
        self._scheduler = scheduler
        self._cache = cache.cache
        self._keys = CacheKeys(cache.namespace, (output.name for output in config.output))
        self._model = config.name
        self._version = str(version)
        self._stats = stats
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._flights: dict[FlightKey, _Flight] = {}
        self._unsettled = 0
        self._drain = Drain()
        self._order: deque[_Waiter] | None = None
        if config.dynamic_batching is not None and config.dynamic_batching.preserve_ordering:
            self._order = deque()

    @property
    def in_flight(self) -> int:
        """Requests submitted and not yet settled."""
        return self._unsettled

    @property
    def healthy(self) -> bool:
        """Whether requests that are not in the cache can be executed."""
        return self._scheduler.healthy

    def submit(self, pending: Pending) -> None:
        """Take a request; its future is settled at once or later.

        Raises:
            ConchError: it is not in the cache and the scheduler behind does not take it.
        """
        waiter = _Waiter(pending)
        pending.future.on_cancel = partial(self._on_cancel, waiter)
        self._unsettled += 1
        if self._order is not None:
            self._order.append(waiter)
        try:
            if sum(len(tensor.data) for tensor in pending.request.inputs) <= LARGEST_HASHED_HERE_BYTES:
                self._look_up(waiter, self._keys.key(pending.request))
            else:
                hashing = self._loop.run_in_executor(None, self._keys.key, pending.request)
                hashing.add_done_callback(partial(self._on_hashed, waiter))
        except ConchError:
            if self._order is not None:
                self._order.remove(waiter)
            self._ended(waiter)
            raise
        waiter.accepted = True

    async def drain(self) -> None:
        """Wait until every submitted request has ended."""
        await self._drain.wait(lambda: self._unsettled)
        await self._scheduler.drain()

    async def close(self) -> None:
        """Close the scheduler behind; lookups under way are answered by its refusal."""
        await self._scheduler.close()

    def _on_hashed(self, waiter: _Waiter, hashing: asyncio.Future[bytes]) -> None:
        if not waiter.future.done():
            self._look_up(waiter, hashing.result())

    def _look_up(self, waiter: _Waiter, key: bytes) -> None:
        waiter.lookup_ns = self._clock.monotonic_ns()
        if not self._join(waiter, key):
            self._cache.lookup(key, partial(self._on_found, waiter, key))

    def _on_found(self, waiter: _Waiter, key: bytes, entry: CachedResponse | None) -> None:
        if waiter.future.done():  # given up meanwhile
            return
        if entry is not None:
            self._hit(waiter, entry.outputs, entry.parameters)
        elif not self._join(waiter, key):  # else another began while this one was looked up
            self._lead(waiter, key)

    def _join(self, waiter: _Waiter, key: bytes) -> bool:
        flight = self._flights.get(_flight_key(waiter, key))
        if flight is None:
            return False
        waiter.flight = flight
        flight.waiters.append(waiter)
        return True

    def _lead(self, waiter: _Waiter, key: bytes) -> None:
        """Pass a request on, in the name of all that join it later."""
        lookup_ns = self._clock.monotonic_ns() - waiter.lookup_ns
        self._stats.record_cache_miss(lookup_ns)
        pending = waiter.pending
        pending.future = RequestFuture(loop=self._loop)
        flight_key = _flight_key(waiter, key)
        flight = waiter.flight = self._flights[flight_key] = _Flight(flight_key, pending.future, waiter, lookup_ns)
        pending.future.on_settled = partial(self._on_answer, flight)
        try:
            self._scheduler.submit(pending)
        except ConchError as error:
            self._forget(flight)
            if not waiter.accepted:
                raise
            self._settle(waiter, error)

    def _on_answer(self, flight: _Flight, answer: asyncio.Future[InferResponse]) -> None:
        self._forget(flight)
        error = answer.exception()
        if error is None:
            self._share(flight, answer.result())
            return
        assert isinstance(error, ConchError)
        for number, waiter in enumerate(tuple(flight.waiters)):
            if waiter.future.done():
                continue
            if number == 0:
                self._settle(waiter, error)
            elif isinstance(error, BackendError):  # what the model says to one it says to all
                self._fail(waiter, error)
            else:  # what befell the first in the queue need not befall the others
                waiter.lookup_ns = self._clock.monotonic_ns()
                if not self._join(waiter, flight.key[0]):
                    self._lead(waiter, flight.key[0])

    def _share(self, flight: _Flight, response: InferResponse) -> None:
        """Keep an answer, then give it to all that wait for it."""
        started_ns = self._clock.monotonic_ns()
        self._cache.insert(flight.key[0], CachedResponse.copy_of(response))
        self._stats.add_cache_insertion(self._clock.monotonic_ns() - started_ns, flight.lookup_ns)
        for number, waiter in enumerate(tuple(flight.waiters)):
            if waiter.future.done():
                continue
            if number:
                self._hit(waiter, response.outputs, response.parameters)
            else:
                waiter.future.compute = flight.future.compute
                self._settle(waiter, msgspec.structs.replace(response, id=waiter.pending.request.id))

    def _hit(self, waiter: _Waiter, outputs: tuple[Tensor, ...], parameters: Mapping[str, Parameter]) -> None:
        pending = waiter.pending
        now_ns = self._clock.monotonic_ns()
        self._stats.record_cache_hit(
            now_ns - pending.enqueued_ns, waiter.lookup_ns - pending.enqueued_ns, now_ns - waiter.lookup_ns
        )
        self._settle(waiter, InferResponse(self._model, self._version, pending.request.id, outputs, parameters))

    def _on_cancel(self, waiter: _Waiter) -> None:
        flight = waiter.flight
        if flight is not None:
            flight.waiters.remove(waiter)
        if flight is None or flight.waiters:
            self._stats.record_failure(FailureReason.CANCELED, self._clock.monotonic_ns() - waiter.pending.enqueued_ns)
        else:  # the scheduler behind counts it
            self._forget(flight)
            flight.future.cancel()
        self._settle(waiter, CancelledError("request was cancelled"))

    def _forget(self, flight: _Flight) -> None:
        """Let nobody join it any more; another flight may have its key by now. Breaks its cycle of references."""
        flight.future.on_settled = None
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _fail(self, waiter: _Waiter, error: ConchError) -> None:
        self._stats.record_failure(error.reason, self._clock.monotonic_ns() - waiter.pending.enqueued_ns)
        self._settle(waiter, error)

    def _settle(self, waiter: _Waiter, outcome: InferResponse | ConchError) -> None:
        """End a request, or with preserve_ordering hold its outcome until those before it have ended."""
        if self._order is None:
            self._finish(waiter, outcome)
            return
        waiter.outcome = outcome
        while self._order and (first := self._order[0].outcome) is not None:
            self._finish(self._order.popleft(), first)

    def _finish(self, waiter: _Waiter, outcome: InferResponse | ConchError) -> None:
        future = waiter.future
        if not future.done():
            if isinstance(outcome, InferResponse):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
            if future.on_settled is not None:
                future.on_settled(future)
        self._ended(waiter)

    def _ended(self, waiter: _Waiter) -> None:
        # Breaks the cycle of references through the future, which would keep the request's tensors until the garbage
        # collector comes by. A settled future does not call it any more.
        waiter.future.on_cancel = nothing
        waiter.flight = None
        self._unsettled -= 1
        if not self._unsettled and self._drain.awaited:
            self._drain.tell()


def _flight_key(waiter: _Waiter, key: bytes) -> FlightKey:
    request = waiter.pending.request
    return key, request.priority, request.timeout_us
