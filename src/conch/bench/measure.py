"""One setting measured: warm up, open the window, close it, wait for the rest."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import msgspec

from conch.bench.channel import Channels
from conch.bench.clock import PreciseClock
from conch.bench.figures import Measurement, Setting, Window, summarize
from conch.bench.loops import ClosedLoop, OpenLoop
from conch.bench.schedule import poisson_arrivals
from conch.bench.statistics import Snapshot, difference
from conch.bench.wires import Wire
from conch.core.clock import SystemClock

#: Requests of an open loop in flight at most: more connections would measure the client.
MAX_LANES = 512

_TICK_S = 0.1


class Duration(msgspec.Struct, frozen=True):
    """How long a setting takes: `warmup_s` before the window of `seconds`, and at most `patience_s` after it."""

    seconds: float = 5.0
    warmup_s: float = 1.0
    patience_s: float = 60.0


class Load(msgspec.Struct, frozen=True):
    """What is sent, and to whom.

    Attributes:
        requests: encoded; sent in turn.
        batch: inferences a request.
        look: reads the server's statistics.
        seed: of the schedule.
    """

    wire: Wire
    requests: Sequence[bytes]
    batch: int
    look: Callable[[], Awaitable[Snapshot]]
    seed: int = 0


async def measure(load: Load, setting: Setting, duration: Duration, tick: Callable[[float], None]) -> Measurement:
    """Put a setting's load on the server. `tick` is called with the seconds that passed since its last call."""
    channels = Channels(load.wire.dial, load.wire.lanes, duration.patience_s)
    precise = PreciseClock()
    requests = itertools.cycle(load.requests)
    loop: ClosedLoop | OpenLoop
    if setting.rate:
        due_ns = poisson_arrivals(setting.rate, precise.monotonic_ns(), Random(load.seed))
        loop = OpenLoop(channels, requests, due_ns, precise, MAX_LANES)
    else:
        loop = ClosedLoop(channels, requests, setting.concurrency, SystemClock())
    gc.collect()
    gc.disable()  # a collection would be measured as latency
    try:
        loop.start()
        await _pass(duration.warmup_s, tick)
        before = await load.look()
        cpu_s, start_ns = time.process_time(), precise.monotonic_ns()
        await _pass(duration.seconds, tick)
        window = Window(start_ns, precise.monotonic_ns())
        cpu_s = time.process_time() - cpu_s
        after = await load.look()
        for since_ns in await loop.stop(duration.patience_s):
            error = f"no answer within {duration.patience_s:g} s"
            loop.records.add(min(since_ns, window.end_ns - 1), window.end_ns - 1, error)
    finally:
        gc.enable()
        channels.close()
        precise.close()
    return summarize(setting, window, loop.records, load.batch, cpu_s / window.seconds, difference(before, after))


async def _pass(seconds: float, tick: Callable[[float], None]) -> None:
    clock = SystemClock()
    last_ns = clock.monotonic_ns()
    end_ns = last_ns + round(seconds * 1e9)
    while last_ns < end_ns:
        await clock.sleep(min(_TICK_S, (end_ns - last_ns) / 1e9))
        now_ns = clock.monotonic_ns()
        tick((now_ns - last_ns) / 1e9)
        last_ns = now_ns
