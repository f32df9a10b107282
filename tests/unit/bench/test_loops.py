from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import cast

from conch.bench.channel import Answer, Channels, Done
from conch.bench.loops import ClosedLoop, OpenLoop
from conch.testing import FakeClock
from conch.testing.clock import settle

MS = 1_000_000


class FakeChannels:
    """Stands in for `Channels`: answers each request `service_ns` after it was sent; None never answers."""

    def __init__(self, clock: FakeClock, service_ns: int | None, error: str = "", lost: bool = False) -> None:
        self.clock = clock
        self.service_ns = service_ns
        self.answer = Answer(error, lost=lost)
        self.sent_ns: list[int] = []
        self.in_flight = 0
        self.most_in_flight = 0

    def lane(self, index: int) -> FakeChannels:
        return self

    def send(self, request: bytes, done: Done) -> None:
        self.sent_ns.append(self.clock.monotonic_ns())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

        def answered() -> None:
            self.in_flight -= 1
            done(self.answer)

        if self.service_ns is not None:
            self.clock.call_at(self.clock.monotonic_ns() + self.service_ns, answered)


def closed(channels: FakeChannels, concurrency: int) -> ClosedLoop:
    return ClosedLoop(cast(Channels, channels), itertools.repeat(b""), concurrency, channels.clock)


def opened(channels: FakeChannels, due_ns: Iterator[int], lanes: int = 100) -> OpenLoop:
    return OpenLoop(cast(Channels, channels), itertools.repeat(b""), due_ns, channels.clock, lanes)


def every(gap_ns: int, start_ns: int) -> Iterator[int]:
    return itertools.count(start_ns + gap_ns, gap_ns)


def latencies_ms(loop: ClosedLoop | OpenLoop) -> list[int]:
    pairs = zip(loop.records.started_ns, loop.records.ended_ns, strict=True)
    return [(ended - started) // MS for started, ended in pairs]


def test_closed_loop_keeps_as_many_requests_in_flight_as_asked() -> None:
    async def work() -> None:
        channels = FakeChannels(FakeClock(), 10 * MS)
        loop = closed(channels, 3)
        loop.start()
        await channels.clock.advance(0.1)
        assert channels.most_in_flight == 3
        assert channels.in_flight == 3
        assert latencies_ms(loop) == [10] * 30

    asyncio.run(work())


def test_closed_loop_stops_when_what_is_in_flight_is_answered() -> None:
    async def work() -> None:
        channels = FakeChannels(FakeClock(), 10 * MS)
        loop = closed(channels, 2)
        loop.start()
        stopping = asyncio.create_task(loop.stop(patience_s=60))
        await settle()
        await channels.clock.advance(0.05)
        assert await stopping == []
        assert len(channels.sent_ns) == 2

    asyncio.run(work())


def test_requests_that_are_never_answered_are_told_at_the_end() -> None:
    async def work() -> None:
        channels = FakeChannels(FakeClock(), None)
        loop = closed(channels, 2)
        loop.start()
        assert await loop.stop(patience_s=0) == channels.sent_ns

    asyncio.run(work())


def test_errors_are_kept_with_their_text() -> None:
    async def work() -> None:
        channels = FakeChannels(FakeClock(), 10 * MS, error="503: queue full")
        loop = closed(channels, 1)
        loop.start()
        await channels.clock.advance(0.02)
        assert [error for _, _, error in loop.records.failed] == ["503: queue full"] * 2
        assert loop.records.ended_ns == []

    asyncio.run(work())


def test_lost_connections_are_tried_again_after_a_pause() -> None:
    async def work() -> None:
        channels = FakeChannels(FakeClock(), 1 * MS, error="refused", lost=True)
        loop = closed(channels, 1)
        loop.start()
        await channels.clock.advance(1.0)
        assert 9 <= len(channels.sent_ns) <= 10

    asyncio.run(work())


def test_open_loop_sends_when_requests_are_due_whatever_happens_to_earlier_ones() -> None:
    async def work() -> None:
        channels = FakeChannels(FakeClock(), None)
        start_ns = channels.clock.monotonic_ns()
        loop = opened(channels, every(10 * MS, start_ns))
        loop.start()
        await channels.clock.advance(0.055)
        assert [(sent - start_ns) // MS for sent in channels.sent_ns] == [10, 20, 30, 40, 50]

    asyncio.run(work())


def test_open_loop_measures_from_when_a_request_was_due_not_from_when_it_could_be_sent() -> None:
    async def work() -> None:
        channels = FakeChannels(FakeClock(), 30 * MS)  # three times slower than requests come
        loop = opened(channels, every(10 * MS, channels.clock.monotonic_ns()), lanes=1)
        loop.start()
        await channels.clock.advance(0.135)
        assert latencies_ms(loop) == [30, 50, 70, 90]
        assert channels.most_in_flight == 1

    asyncio.run(work())


def test_open_loop_answers_what_is_due_before_it_stops() -> None:
    async def work() -> None:
        channels = FakeChannels(FakeClock(), 30 * MS)
        loop = opened(channels, every(10 * MS, channels.clock.monotonic_ns()), lanes=1)
        loop.start()
        await channels.clock.advance(0.035)  # three are due, one of them is on its way
        stopping = asyncio.create_task(loop.stop(patience_s=60))
        await settle()
        await channels.clock.advance(1.0)
        assert await stopping == []
        assert len(loop.records.ended_ns) == 3

    asyncio.run(work())


def test_open_loop_sends_what_came_due_while_nothing_ran_before_it_stops() -> None:
    async def work() -> None:
        channels = FakeChannels(FakeClock(), None)
        start_ns = channels.clock.monotonic_ns()
        loop = opened(channels, (start_ns + each for each in (-30 * MS, -20 * MS, -10 * MS, 10 * MS)))
        loop.start()
        left = await loop.stop(patience_s=0)
        assert [(due - start_ns) // MS for due in left] == [-30, -20, -10]

    asyncio.run(work())


def test_open_loop_tells_what_was_due_and_never_answered() -> None:
    async def work() -> None:
        channels = FakeChannels(FakeClock(), None)
        start_ns = channels.clock.monotonic_ns()
        loop = opened(channels, every(10 * MS, start_ns), lanes=1)
        loop.start()
        await channels.clock.advance(0.035)
        left = await loop.stop(patience_s=0)
        assert [(due - start_ns) // MS for due in left] == [10, 20, 30]

    asyncio.run(work())
