"""Which instances may execute at the same time: those that find the resources they need.

Among those that wait, the ones that have executed least, weighted by their priority, come first; a request is never
given up here. Everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from conch.backend_api import BatchResult, Instance, ResponseSink, StreamingInstance
from conch.config.rate_limits import ResourceKey
from conch.config.schema import RateLimit
from conch.errors import ConchError, InvalidArgumentError, UnavailableError
from conch.inference import InferRequest

#: A resource's name and the device whose it is; None for one that the whole server shares.
_Pool = tuple[str, int | None]


class _Member:
    """An instance: what it needs, its weight, how often it has executed, and what it wants to do now."""

    __slots__ = ("executions", "needs", "start", "weight")

    def __init__(self, limit: RateLimit, device_id: int) -> None:
        self.needs: dict[_Pool, int] = {}
        for resource in limit.resources:
            pool = (resource.name, None if resource.is_global else device_id)
            self.needs[pool] = max(self.needs.get(pool, 0), resource.count)
        self.weight = max(1, limit.priority)
        self.executions = 0
        self.start: Callable[[], None] | None = None


class RateLimiter:
    """The resources of a server.

    Args:
        resources: what there is; when empty, as much of each as the instance that needs most of it needs.
    """

    def __init__(self, resources: Mapping[ResourceKey, int]) -> None:
        self._given = resources
        self._members: list[_Member] = []
        self._used: dict[_Pool, int] = {}
        self._waiting: list[_Member] = []

    def limit(self, instance: Instance, limit: RateLimit, device_id: int) -> Instance:
        """The instance, executing only while it has its resources; closing it gives up its membership.

        Raises:
            InvalidArgumentError: it needs more than there is.
        """
        member = _Member(limit, device_id)
        for pool, count in member.needs.items():
            if self._given and self._available(pool) < count:
                raise InvalidArgumentError(
                    f'Resource count for "{pool[0]}" is limited to {self._available(pool)} which will prevent '
                    f"scheduling of one or more model instances, the minimum required count is {count}"
                )
        self._members.append(member)
        if isinstance(instance, StreamingInstance):
            return _LimitedStreaming(instance, self, member)
        return _Limited(instance, self, member)

    def _available(self, pool: _Pool) -> int:
        if self._given:
            name, device = pool
            return self._given.get((name, device), self._given.get((name, None), 0))
        return max((member.needs.get(pool, 0) for member in self._members), default=0)

    def acquire(self, member: _Member, start: Callable[[], None]) -> None:
        """Call `start` as soon as the member has its resources, at once if it can be."""
        member.start = start
        self._waiting.append(member)
        self._serve()

    def release(self, member: _Member) -> None:
        """The member has executed."""
        for pool, count in member.needs.items():
            self._used[pool] -= count
        self._serve()

    def leave(self, member: _Member) -> None:
        """The member executes no more."""
        if member in self._members:
            self._members.remove(member)
        if member in self._waiting:
            self._waiting.remove(member)

    def _serve(self) -> None:
        """Start whoever can start. Who has executed least goes first, and nobody goes before it for the same pool."""
        kept_for_others: set[_Pool] = set()
        for member in sorted(self._waiting, key=lambda waiting: waiting.executions * waiting.weight):
            fits = all(self._used.get(pool, 0) + n <= self._available(pool) for pool, n in member.needs.items())
            if not fits or not kept_for_others.isdisjoint(member.needs):
                kept_for_others.update(member.needs)
                continue
            self._waiting.remove(member)
            for pool, count in member.needs.items():
                self._used[pool] = self._used.get(pool, 0) + count
            member.executions += 1
            start, member.start = member.start, None
            if start is not None:
                start()


class _Limited:
    """An instance that waits for its resources before each batch."""

    def __init__(self, instance: Instance, limiter: RateLimiter, member: _Member) -> None:
        self._instance = instance
        self._limiter = limiter
        self._member = member
        self._waits: asyncio.Future[BatchResult] | None = None

    def execute(self, requests: Sequence[InferRequest]) -> Awaitable[BatchResult]:
        """See `conch.backend_api.Instance`."""
        return self._when_free(lambda: self._instance.execute(requests))

    def on_idle_death(self, callback: Callable[[ConchError], None]) -> None:
        """See `conch.backend_api.Instance`."""
        self._instance.on_idle_death(callback)

    async def restart(self) -> None:
        """See `conch.backend_api.Instance`."""
        await self._instance.restart()

    async def close(self) -> None:
        """Close the instance; a batch that still waits for resources fails."""
        self._limiter.leave(self._member)
        if self._waits is not None and not self._waits.done():
            self._waits.set_exception(UnavailableError("Server is stopping, the request was not executed"))
        await self._instance.close()

    def _when_free(self, execute: Callable[[], Awaitable[BatchResult]]) -> Awaitable[BatchResult]:
        outcome: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()

        def start() -> None:
            self._waits = None
            running = asyncio.ensure_future(execute())
            running.add_done_callback(ended)

        def ended(done: asyncio.Future[BatchResult]) -> None:
            self._limiter.release(self._member)
            if outcome.done():
                return
            failure = None if done.cancelled() else done.exception()
            if done.cancelled():
                outcome.cancel()
            elif failure is not None:
                outcome.set_exception(failure)
            else:
                outcome.set_result(done.result())

        self._waits = outcome
        self._limiter.acquire(self._member, start)
        return outcome


class _LimitedStreaming(_Limited):
    """As `_Limited`, of an instance whose model may answer requests by itself."""

    def __init__(self, instance: StreamingInstance, limiter: RateLimiter, member: _Member) -> None:
        super().__init__(instance, limiter, member)
        self._streaming = instance

    def execute_into(self, requests: Sequence[InferRequest], sinks: Sequence[ResponseSink]) -> Awaitable[BatchResult]:
        """See `conch.backend_api.StreamingInstance`."""
        return self._when_free(lambda: self._streaming.execute_into(requests, sinks))
