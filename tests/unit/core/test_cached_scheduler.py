"""Requests before the scheduler: hits, misses, equal requests in flight, and every way one of them can end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.config.schema import DynamicBatching, ModelConfig, QueuePolicy
from conch.core.cache import CachedResponse, LocalCache, ModelCache, ResponseCache
from conch.core.cached_scheduler import LARGEST_HASHED_HERE_BYTES
from conch.core.queue import RequestFuture
from conch.errors import BackendError, ConchError, FailureReason, InstanceDiedError, RejectedError, UnavailableError
from conch.inference import InferRequest, InferResponse
from conch.testing import EchoBackend, FakeClock, SlowBackend
from conch.testing.clock import settle
from tests.unit.core.conftest import Harness, make_config, make_request, run


class LaterCache:
    """A cache that answers when the test says so; keeps nothing."""

    def __init__(self) -> None:
        self.lookups: list[Callable[[CachedResponse | None], None]] = []
        self.inserted: list[CachedResponse] = []

    def namespace(self, config: ModelConfig, version: int, directory: Path) -> bytes:
        return b""

    def lookup(self, key: bytes, then: Callable[[CachedResponse | None], None]) -> None:
        self.lookups.append(then)

    def insert(self, key: bytes, entry: CachedResponse) -> None:
        self.inserted.append(entry)

    async def close(self) -> None:
        self.lookups.clear()


def cached(backend: Any, *, cache: ResponseCache | None = None, **config: Any) -> Harness:
    """A model that keeps its responses; batches of one unless `batching` says otherwise."""
    found = cache or LocalCache(1 << 20, FakeClock())
    return Harness(backend, make_config(**config), cache=ModelCache(found, b"model"))


def executed(harness: Harness) -> list[float]:
    """The first value of each request that the instance executed."""
    batches = harness.instances[0].batches
    return [float(request.inputs[0].as_numpy().flat[0]) for batch in batches for request in batch]


def counts(harness: Harness) -> dict[str, int]:
    return {name: stat.count for name, stat in harness.model.stats.inference_stats.items() if stat.count}


def values(response: InferResponse) -> list[float]:
    return response.outputs[0].as_numpy().flatten().tolist()


def error_of(future: RequestFuture) -> BaseException | None:
    return future.exception()


def test_a_hit_is_answered_at_once_and_without_executing() -> None:
    async def work() -> None:
        harness = cached(EchoBackend)
        first = await harness.model.infer(make_request(id="a"))
        hit = harness.model.infer(make_request(id="b"))
        assert hit.done()
        assert (hit.result().id, hit.result().model_name, hit.result().model_version) == ("b", "echo", "1")
        assert values(hit.result()) == values(first) == [1.0, 2.0]
        assert len(executed(harness)) == 1
        await harness.model.close()

    run(work())


def test_a_hit_counts_as_success_and_in_queue_but_is_neither_inference_nor_execution() -> None:
    async def work() -> None:
        harness = cached(EchoBackend)
        await harness.model.infer(make_request())
        await harness.model.infer(make_request())
        stats = harness.model.stats
        assert counts(harness) == {
            "success": 2,
            "queue": 2,
            "compute_input": 1,
            "compute_infer": 1,
            "compute_output": 1,
            "cache_hit": 1,
            "cache_miss": 1,
        }
        assert (stats.inference_count, stats.execution_count, sum(stats.duration_buckets)) == (1, 1, 2)
        await harness.model.close()

    run(work())


def test_other_inputs_and_other_parameters_are_executed() -> None:
    async def work() -> None:
        harness = cached(EchoBackend)
        await harness.model.infer(make_request((1.0,)))
        await harness.model.infer(make_request((2.0,)))
        await harness.model.infer(make_request((1.0,), parameters={"top_k": 2}))
        assert executed(harness) == [1.0, 2.0, 1.0]
        await harness.model.close()

    run(work())


def test_without_a_cache_every_request_is_executed() -> None:
    async def work() -> None:
        harness = Harness(EchoBackend, make_config())
        assert not harness.model.cached
        await harness.model.infer(make_request())
        await harness.model.infer(make_request())
        assert len(executed(harness)) == 2
        await harness.model.close()

    run(work())


def test_an_error_is_not_kept() -> None:
    async def work() -> None:
        harness = cached(SlowBackend)
        failing = harness.model.infer(make_request())
        await settle()
        harness.instances[0].fail(BackendError("no"))
        with pytest.raises(BackendError):
            await failing
        again = harness.model.infer(make_request())
        await settle()
        harness.instances[0].release()
        assert values(await again) == [1.0, 2.0]
        assert counts(harness)["cache_miss"] == 2
        await harness.model.close()

    run(work())


def test_equal_requests_in_flight_are_executed_once() -> None:
    async def work() -> None:
        harness = cached(SlowBackend)
        futures = [harness.model.infer(make_request(id=name)) for name in "abc"]
        await settle()
        assert harness.model.in_flight == 3
        harness.instances[0].release()
        responses = await asyncio.gather(*futures)
        assert [response.id for response in responses] == ["a", "b", "c"]
        assert [values(response) for response in responses] == [[1.0, 2.0]] * 3
        assert len(executed(harness)) == 1
        assert counts(harness)["success"] == 3
        assert (counts(harness)["cache_hit"], counts(harness)["cache_miss"]) == (2, 1)
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())


def test_each_of_equal_requests_tells_its_wire_once() -> None:
    async def work() -> None:
        harness = cached(SlowBackend)
        told: list[str] = []
        for name in "ab":
            future = harness.model.infer(make_request(id=name))
            future.on_settled = lambda done: told.append(done.result().id)
        await settle()
        harness.instances[0].release()
        await settle()
        assert told == ["a", "b"]
        await harness.model.close()

    run(work())


def test_equal_requests_of_different_priority_do_not_wait_for_each_other() -> None:
    async def work() -> None:
        harness = cached(SlowBackend)
        futures = [harness.model.infer(make_request(priority=priority)) for priority in (1, 2)]
        for _ in futures:
            await settle()
            harness.instances[0].release()
        await asyncio.gather(*futures)
        assert len(executed(harness)) == 2
        await harness.model.close()

    run(work())


def test_the_first_of_equal_requests_may_give_up_without_the_others() -> None:
    async def work() -> None:
        harness = cached(SlowBackend)
        first, second = harness.model.infer(make_request(id="a")), harness.model.infer(make_request(id="b"))
        await settle()
        first.cancel()
        harness.instances[0].release()
        assert (await second).id == "b"
        assert first.cancelled()
        assert harness.model.stats.failures[FailureReason.CANCELED] == 1
        assert (counts(harness)["success"], harness.model.in_flight) == (1, 0)
        await harness.model.close()

    run(work())


def test_a_later_one_of_equal_requests_may_give_up_without_the_others() -> None:
    async def work() -> None:
        harness = cached(SlowBackend)
        first, second = harness.model.infer(make_request()), harness.model.infer(make_request())
        await settle()
        second.cancel()
        harness.instances[0].release()
        assert values(await first) == [1.0, 2.0]
        assert second.cancelled()
        assert counts(harness)["success"] == 1
        await harness.model.close()

    run(work())


def test_a_request_that_waits_is_not_executed_when_all_have_given_up() -> None:
    async def work() -> None:
        harness = cached(SlowBackend)
        busy = harness.model.infer(make_request((9.0,)))
        await settle()
        waiting = [harness.model.infer(make_request((1.0,))) for _ in range(2)]
        for future in waiting:
            future.cancel()
        harness.instances[0].release()
        await busy
        await settle()
        assert executed(harness) == [9.0]
        assert harness.model.stats.failures[FailureReason.CANCELED] == 2
        again = harness.model.infer(make_request((1.0,)))
        await settle()
        harness.instances[0].release()
        await again
        assert executed(harness) == [9.0, 1.0]
        await harness.model.close()

    run(work())


@pytest.mark.parametrize("error", [BackendError("no"), InstanceDiedError("gone")], ids=["refused", "died"])
def test_an_error_of_the_model_is_that_of_all_equal_requests(error: ConchError) -> None:
    async def work() -> None:
        harness = cached(SlowBackend)
        futures = [harness.model.infer(make_request()) for _ in range(3)]
        await settle()
        harness.instances[0].fail(error)
        await settle()
        assert [error_of(future) for future in futures] == [error] * 3
        assert harness.model.stats.failures[FailureReason.BACKEND] == 3
        assert counts(harness)["fail"] == 3
        await harness.model.close()

    run(work())


def test_when_the_first_expires_in_the_queue_the_others_are_queued_for_themselves() -> None:
    async def work() -> None:
        policy = QueuePolicy(default_timeout_microseconds=100_000)
        batching = DynamicBatching(default_queue_policy=policy, preferred_batch_size=(1,))
        harness = cached(SlowBackend, batching=batching, max_batch_size=1)
        busy = harness.model.infer(make_request((9.0,)))
        await settle()
        first = harness.model.infer(make_request((1.0,), id="a"))
        await harness.clock.advance(0.06)
        second = harness.model.infer(make_request((1.0,), id="b"))
        await harness.clock.advance(0.06)
        assert isinstance(error_of(first), RejectedError)
        assert not second.done()
        harness.instances[0].release()
        await busy
        await settle()
        harness.instances[0].release()
        assert (await second).id == "b"
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())


def test_a_full_queue_refuses_at_the_call() -> None:
    async def work() -> None:
        batching = DynamicBatching(default_queue_policy=QueuePolicy(max_queue_size=1), preserve_ordering=True)
        harness = cached(SlowBackend, batching=batching, max_batch_size=1)
        futures = [harness.model.infer(make_request((1.0,)))]
        await settle()
        futures.append(harness.model.infer(make_request((2.0,))))
        with pytest.raises(RejectedError):
            harness.model.infer(make_request((3.0,)))
        assert harness.model.in_flight == 2
        for _ in futures:
            await settle()
            harness.instances[0].release()
        await asyncio.gather(*futures)
        await harness.model.close()

    run(work())


def test_with_preserve_ordering_a_hit_waits_for_those_before_it() -> None:
    async def work() -> None:
        harness = cached(SlowBackend, batching=DynamicBatching(preserve_ordering=True))
        kept = harness.model.infer(make_request((1.0,)))
        await settle()
        harness.instances[0].release()
        await kept
        before, given_up = harness.model.infer(make_request((2.0,))), harness.model.infer(make_request((2.0,)))
        hit = harness.model.infer(make_request((1.0,)))
        await settle()
        assert not hit.done()
        given_up.cancel()
        harness.instances[0].release()
        await settle()
        assert before.done()
        assert values(hit.result()) == [1.0]
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())


def large_request(**fields: Any) -> InferRequest:
    return make_request(np.arange(LARGEST_HASHED_HERE_BYTES // 4 + 1), **fields)


def test_large_inputs_are_hashed_beside_the_loop() -> None:
    async def work() -> None:
        harness = cached(EchoBackend)
        first = harness.model.infer(large_request())
        assert not first.done()
        await first
        hit = harness.model.infer(large_request(id="b"))
        assert not hit.done()
        assert (await hit).id == "b"
        assert len(executed(harness)) == 1
        await harness.model.close()

    run(work())


def test_a_request_that_gives_up_while_it_is_hashed_is_not_executed() -> None:
    async def work() -> None:
        harness = cached(EchoBackend)
        future = harness.model.infer(large_request())
        future.cancel()
        await asyncio.get_running_loop().run_in_executor(None, int)
        await settle()
        assert executed(harness) == []
        assert harness.model.stats.failures[FailureReason.CANCELED] == 1
        await harness.model.drain()
        await harness.model.close()

    run(work())


def test_a_lookup_that_takes_time_ends_in_an_execution_or_in_a_hit() -> None:
    async def work() -> None:
        cache = LaterCache()
        harness = cached(EchoBackend, cache=cache)
        missed, hit = harness.model.infer(make_request((1.0,))), harness.model.infer(make_request((2.0,)))
        await settle()
        assert executed(harness) == []
        cache.lookups[0](None)
        cache.lookups[1](CachedResponse((), {"kept": True}))
        assert hit.result().parameters == {"kept": True}
        assert values(await missed) == [1.0]
        assert len(cache.inserted) == 1
        await harness.model.close()

    run(work())


def test_of_equal_requests_looked_up_at_the_same_time_one_is_executed() -> None:
    async def work() -> None:
        cache = LaterCache()
        harness = cached(SlowBackend, cache=cache)
        futures = [harness.model.infer(make_request()) for _ in range(3)]
        assert len(cache.lookups) == 3
        for then in cache.lookups:
            then(None)
        await settle()
        harness.instances[0].release()
        await asyncio.gather(*futures)
        assert len(executed(harness)) == 1
        await harness.model.close()

    run(work())


def test_a_request_that_gave_up_during_its_lookup_is_not_executed() -> None:
    async def work() -> None:
        cache = LaterCache()
        harness = cached(EchoBackend, cache=cache)
        future = harness.model.infer(make_request())
        future.cancel()
        cache.lookups[0](None)
        await settle()
        assert executed(harness) == []
        await harness.model.drain()
        await harness.model.close()

    run(work())


def test_draining_waits_for_lookups() -> None:
    async def work() -> None:
        cache = LaterCache()
        harness = cached(EchoBackend, cache=cache)
        future = harness.model.infer(make_request())
        draining = asyncio.ensure_future(harness.model.drain())
        await settle()
        assert not draining.done()
        cache.lookups[0](None)
        await future
        await draining
        await harness.model.close()

    run(work())


def test_a_lookup_that_ends_after_the_model_was_closed_ends_in_a_refusal() -> None:
    async def work() -> None:
        cache = LaterCache()
        harness = cached(EchoBackend, cache=cache)
        future = harness.model.infer(make_request())
        await harness.model.close()
        cache.lookups[0](None)
        with pytest.raises(UnavailableError):
            await future

    run(work())


def test_requests_leave_nothing_for_the_garbage_collector() -> None:
    async def requests(harness: Harness, number: float) -> None:
        busy = harness.model.infer(make_request((number,)))
        equal = harness.model.infer(make_request((number,)))
        given_up = harness.model.infer(make_request((number + 0.5,)))
        await settle()
        given_up.cancel()
        harness.instances[0].release()
        await asyncio.gather(busy, equal)
        await harness.model.infer(make_request((number,)))
        failing = harness.model.infer(make_request((number + 0.25,)))
        await settle()
        harness.instances[0].fail(BackendError("no"))
        await asyncio.wait((failing,))
        assert isinstance(error_of(failing), BackendError)
        harness.instances[0].batches.clear()

    async def work() -> None:
        harness = cached(SlowBackend)
        await requests(harness, 0.0)
        gc.collect()
        gc.disable()
        try:
            for number in range(1, 11):
                await requests(harness, float(number))
            left = [thing for thing in garbage() if type(thing).__module__.startswith("conch")]
        finally:
            gc.enable()
        assert left == []
        await harness.model.close()

    run(work())


def garbage() -> list[object]:
    """What only the garbage collector would free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
