"""The two ways to put load on a server.

A closed loop keeps a number of requests in flight: each answer is followed by the next request. An open loop sends when
its schedule says so, whether earlier requests are answered or not, and measures from the moment the schedule named: a
server that falls behind cannot hide it by slowing its client down (no coordinated omission).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from conch.bench.channel import Answer, Channel, Channels
from conch.bench.figures import Records
from conch.core.clock import Clock

#: How long a lane waits after a lost connection, so that a dead server is not hammered.
_BACK_OFF_NS = 100_000_000


class ClosedLoop:
    """As many lanes as the concurrency says, each with one request in flight.

    Args:
        requests: encoded, without end.
    """

    def __init__(self, channels: Channels, requests: Iterator[bytes], concurrency: int, clock: Clock) -> None:
        self.records = Records()
        self._requests = requests
        self._clock = clock
        self._lanes = [_Lane(self, channels.lane(index)) for index in range(concurrency)]
        self._running = False
        self._abandoned = False
        self._idle = asyncio.Event()

    def start(self) -> None:
        """Send the first requests."""
        self._running = True
        for lane in self._lanes:
            lane.send()

    async def stop(self, patience_s: float) -> list[int]:
        """Send no more and wait for what is in flight; returns when requests were sent that were not answered."""
        self._running = False
        self._note_idle()
        try:
            await asyncio.wait_for(self._idle.wait(), patience_s)
        except TimeoutError:
            self._abandoned = True
            return [lane.sent_ns for lane in self._lanes if lane.in_flight]
        return []

    def next_request(self) -> bytes:
        return next(self._requests)

    def now_ns(self) -> int:
        return self._clock.monotonic_ns()

    def ended(self, lane: _Lane, answer: Answer) -> None:
        """A lane's request has its answer."""
        if self._abandoned:
            return
        self.records.add(lane.sent_ns, self._clock.monotonic_ns(), answer.error)
        if not self._running:
            self._note_idle()
        elif answer.lost:
            self._clock.call_at(self._clock.monotonic_ns() + _BACK_OFF_NS, lambda: self._again(lane))
        else:
            lane.send()

    def _again(self, lane: _Lane) -> None:
        if self._running:
            lane.send()

    def _note_idle(self) -> None:
        if not any(lane.in_flight for lane in self._lanes):
            self._idle.set()


class _Lane:
    """One request in flight, and then the next."""

    __slots__ = ("_channel", "_loop", "in_flight", "sent_ns")

    def __init__(self, loop: ClosedLoop, channel: Channel) -> None:
        self._loop = loop
        self._channel = channel
        self.sent_ns = 0
        self.in_flight = False

    def send(self) -> None:
        self.in_flight = True
        self.sent_ns = self._loop.now_ns()
        self._channel.send(self._loop.next_request(), self._done)

    def _done(self, answer: Answer) -> None:
        self.in_flight = False
        self._loop.ended(self, answer)


class OpenLoop:
    """Sends when requests are due; when all lanes are taken they wait here, and the wait counts.

    Args:
        due_ns: when, without end, ascending.
        max_lanes: requests in flight at most.
    """

    def __init__(
        self, channels: Channels, requests: Iterator[bytes], due_ns: Iterator[int], clock: Clock, max_lanes: int
    ) -> None:
        self.records = Records()
        self._channels = channels
        self._requests = requests
        self._arrivals = due_ns
        self._clock = clock
        self._max_lanes = max_lanes
        self._lanes = 0
        self._free: list[int] = []
        self._waiting: deque[int] = deque()
        self._in_flight: dict[int, int] = {}
        self._next_ns = 0
        self._running = False
        self._abandoned = False
        self._idle = asyncio.Event()

    def start(self) -> None:
        """Wait for the first request that is due."""
        self._running = True
        self._next_ns = next(self._arrivals)
        self._clock.call_at(self._next_ns, self._on_time)

    async def stop(self, patience_s: float) -> list[int]:
        """Send no more than what is due and wait for it; returns when requests were due that were not answered."""
        self._on_time()  # what came due while the machine stood still
        self._running = False
        self._note_idle()
        try:
            await asyncio.wait_for(self._idle.wait(), patience_s)
        except TimeoutError:
            left = [*self._in_flight.values(), *self._waiting]
            self._abandoned = True
            return left
        return []

    def _on_time(self) -> None:
        if not self._running:
            return
        now_ns = self._clock.monotonic_ns()
        while self._next_ns <= now_ns:
            self._waiting.append(self._next_ns)
            self._next_ns = next(self._arrivals)
        self._dispatch()
        self._clock.call_at(self._next_ns, self._on_time)

    def _dispatch(self) -> None:
        while self._waiting:
            if self._free:
                lane = self._free.pop()
            elif self._lanes < self._max_lanes:
                lane = self._lanes
                self._lanes += 1
            else:
                return
            self._send(lane, self._waiting.popleft())

    def _send(self, lane: int, due_ns: int) -> None:
        def done(answer: Answer) -> None:
            if self._abandoned:
                return
            self.records.add(due_ns, self._clock.monotonic_ns(), answer.error)
            del self._in_flight[lane]
            self._free.append(lane)
            self._dispatch()
            if not self._running:
                self._note_idle()

        self._in_flight[lane] = due_ns
        self._channels.lane(lane).send(next(self._requests), done)

    def _note_idle(self) -> None:
        if not self._in_flight and not self._waiting:
            self._idle.set()
