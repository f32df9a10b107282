"""The scheduler over fake instances and a clock that tests move."""

from __future__ import annotations

import asyncio
import logging

import pytest

from conch.config.schema import DynamicBatching, QueuePolicy
from conch.errors import BackendError, FailureReason, InstanceDiedError, RejectedError, UnavailableError
from conch.testing import EchoBackend, FailingBackend, SlowBackend
from conch.testing.clock import settle
from tests.unit.core.conftest import Harness, make_config, make_request, run

BATCHING = DynamicBatching()


def test_a_request_is_answered_with_the_models_outputs() -> None:
    async def work() -> None:
        harness = Harness(EchoBackend, make_config())
        response = await harness.model.infer(make_request((1.0, 2.0), id="7"))
        assert response.id == "7"
        assert response.model_version == "1"
        assert response.outputs[0].as_numpy().tolist() == [[1.0, 2.0]]
        await harness.model.close()
        assert harness.instances[0].closed

    run(work())


def test_the_direct_scheduler_executes_requests_one_by_one() -> None:
    async def work() -> None:
        harness = Harness(EchoBackend, make_config(batching=None))
        await asyncio.gather(*(harness.model.infer(make_request()) for _ in range(3)))
        assert [len(batch) for batch in harness.instances[0].batches] == [1, 1, 1]
        await harness.model.close()

    run(work())


def test_what_arrives_during_an_execution_forms_the_next_batch() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=BATCHING))
        slow = harness.instances[0]
        first = harness.model.infer(make_request())
        await settle()
        others = [harness.model.infer(make_request()) for _ in range(10)]
        await settle()
        assert harness.model.stats.pending_count == 10
        slow.release()
        await first
        await settle()
        slow.release()
        await settle()
        slow.release()
        await asyncio.gather(*others)
        assert [len(batch) for batch in slow.batches] == [1, 8, 2]
        assert harness.model.stats.inference_count == 11
        assert harness.model.stats.execution_count == 3
        assert harness.model.stats.pending_count == 0
        await harness.model.close()

    run(work())


def test_unequal_shapes_do_not_share_a_batch() -> None:
    async def work() -> None:
        harness = Harness(EchoBackend, make_config(batching=BATCHING))
        requests = [make_request((1.0,)), make_request((1.0, 2.0)), make_request((3.0, 4.0))]
        await asyncio.gather(*(harness.model.infer(request) for request in requests))
        assert [len(batch) for batch in harness.instances[0].batches] == [1, 2]
        await harness.model.close()

    run(work())


def test_a_lonely_request_waits_for_the_queue_delay_and_no_longer() -> None:
    async def work() -> None:
        harness = Harness(EchoBackend, make_config(batching=DynamicBatching(max_queue_delay_microseconds=1000)))
        future = harness.model.infer(make_request())
        await harness.clock.advance(0.0009)
        assert not future.done()
        await harness.clock.advance(0.0002)
        assert future.done()
        await harness.model.close()

    run(work())


def test_a_full_queue_rejects_and_counts_it() -> None:
    async def work() -> None:
        batching = DynamicBatching(default_queue_policy=QueuePolicy(max_queue_size=2))
        harness = Harness(SlowBackend, make_config(batching=batching))
        running = harness.model.infer(make_request())
        await settle()
        waiting = [harness.model.infer(make_request()) for _ in range(2)]
        with pytest.raises(RejectedError, match="Exceeds maximum queue size"):
            harness.model.infer(make_request())
        assert harness.model.stats.failures[FailureReason.REJECTED] == 1
        harness.instances[0].release()
        await settle()
        harness.instances[0].release()
        await asyncio.gather(running, *waiting)
        await harness.model.close()

    run(work())


def test_a_request_that_waits_past_its_timeout_is_rejected_while_the_instance_is_busy() -> None:
    async def work() -> None:
        policy = QueuePolicy(default_timeout_microseconds=1000)
        harness = Harness(SlowBackend, make_config(batching=DynamicBatching(default_queue_policy=policy)))
        running = harness.model.infer(make_request())
        await settle()
        late = harness.model.infer(make_request())
        await harness.clock.advance(0.0011)
        with pytest.raises(RejectedError, match="Request timeout expired"):
            await late
        harness.instances[0].release()
        await running
        await harness.model.close()

    run(work())


def test_requests_that_wait_too_long_are_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        policy = QueuePolicy(default_timeout_microseconds=1000)
        harness = Harness(SlowBackend, make_config(batching=DynamicBatching(default_queue_policy=policy)))
        running = harness.model.infer(make_request())
        await settle()
        for number in range(13):
            late = [harness.model.infer(make_request(id=f"{number}{letter}")) for letter in "ab"]
            await harness.clock.advance(1.0)
            await asyncio.gather(*late, return_exceptions=True)
        harness.instances[0].release()
        await running
        await harness.model.close()

    with caplog.at_level(logging.INFO, "conch.core.scheduler"):
        run(work())
    text = "model 'echo': 2 requests (id '{0}a', '{0}b') rejected after waiting in the queue longer than allowed"
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("INFO", text.format(0)),
        ("INFO", f"{text.format(10)}; 18 more since the last such line"),
    ]


def test_a_client_may_shorten_the_timeout_only_where_the_policy_allows_it() -> None:
    async def work(allowed: bool) -> None:
        policy = QueuePolicy(default_timeout_microseconds=1_000_000, allow_timeout_override=allowed)
        harness = Harness(SlowBackend, make_config(batching=DynamicBatching(default_queue_policy=policy)))
        running = harness.model.infer(make_request())
        await settle()
        late = harness.model.infer(make_request(timeout_us=10))
        await harness.clock.advance(0.001)
        assert late.done() is allowed
        if allowed:
            assert isinstance(late.exception(), RejectedError)
        harness.instances[0].release()
        await running
        await settle()
        if not allowed:
            harness.instances[0].release()
            await late
        await harness.model.close()

    run(work(True))
    run(work(False))


def test_a_delayed_request_is_served_after_the_others() -> None:
    async def work() -> None:
        policy = QueuePolicy(timeout_action="DELAY", default_timeout_microseconds=1000)
        batching = DynamicBatching(default_queue_policy=policy)
        harness = Harness(SlowBackend, make_config(max_batch_size=1, batching=batching))
        running = harness.model.infer(make_request((0.0,)))
        await settle()
        delayed = harness.model.infer(make_request((1.0,)))
        await harness.clock.advance(0.0011)
        fresh = harness.model.infer(make_request((2.0,)))
        slow = harness.instances[0]
        for future in (running, fresh, delayed):
            slow.release()
            await future
            await settle()
        assert [batch[0].inputs[0].as_numpy()[0, 0] for batch in slow.batches] == [0.0, 2.0, 1.0]
        await harness.model.close()

    run(work())


def test_a_higher_priority_goes_first() -> None:
    async def work() -> None:
        batching = DynamicBatching(priority_levels=2, default_priority_level=2)
        harness = Harness(SlowBackend, make_config(max_batch_size=1, batching=batching))
        slow = harness.instances[0]
        futures = [harness.model.infer(make_request((0.0,)))]
        await settle()
        futures.append(harness.model.infer(make_request((1.0,))))
        futures.append(harness.model.infer(make_request((2.0,), priority=1)))
        for _ in range(3):
            slow.release()
            await settle()
        await asyncio.gather(*futures)
        assert [batch[0].inputs[0].as_numpy()[0, 0] for batch in slow.batches] == [0.0, 2.0, 1.0]
        await harness.model.close()

    run(work())


@pytest.mark.parametrize("ordered", [True, False])
def test_preserve_ordering_holds_answers_back_until_earlier_ones_are_out(ordered: bool) -> None:
    async def work() -> None:
        batching = DynamicBatching(preserve_ordering=ordered)
        harness = Harness(SlowBackend, make_config(max_batch_size=1, batching=batching), instances=2)
        first = harness.model.infer(make_request((1.0,)))
        await settle()
        second = harness.model.infer(make_request((2.0,)))
        await settle()
        busy_second = next(i for i in harness.instances if i.batches[0][0].inputs[0].as_numpy()[0, 0] == 2.0)
        busy_first = next(i for i in harness.instances if i is not busy_second)
        busy_second.release()
        await settle()
        assert second.done() is not ordered
        busy_first.release()
        await asyncio.gather(first, second)
        await harness.model.close()

    run(work())


def test_a_cancelled_request_leaves_the_queue_and_is_counted() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=BATCHING))
        running = harness.model.infer(make_request())
        await settle()
        given_up = harness.model.infer(make_request())
        given_up.cancel()
        assert harness.model.stats.failures[FailureReason.CANCELED] == 1
        assert harness.model.stats.pending_count == 0
        harness.instances[0].release()
        await running
        assert len(harness.instances[0].batches) == 1
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())


def test_a_failed_batch_fails_its_requests_and_the_instance_goes_on() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=BATCHING))
        bad = harness.model.infer(make_request())
        await settle()
        harness.instances[0].fail(BackendError("boom"))
        with pytest.raises(BackendError, match="boom"):
            await bad
        good = harness.model.infer(make_request())
        await settle()
        harness.instances[0].release()
        await good
        assert harness.model.stats.failures[FailureReason.BACKEND] == 1
        assert (harness.model.stats.execution_count, harness.model.stats.inference_count) == (2, 1)
        await harness.model.close()

    run(work())


def test_the_log_names_the_requests_that_failed_and_their_instance(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=BATCHING))
        slow = harness.instances[0]
        for error, ids in ((BackendError("boom"), ("a",)), (InstanceDiedError("gone"), ("b", "", "c"))):
            failing = [harness.model.infer(make_request(id=name)) for name in ids]
            await settle()
            slow.fail(error)
            await asyncio.gather(*failing, return_exceptions=True)
        await harness.model.close()

    with caplog.at_level(logging.ERROR, "conch.core.scheduler"):
        run(work())
    assert [(vars(each)["instance"], each.getMessage()) for each in caplog.records] == [
        ("echo_0_0", "1 request (id 'a') failed: boom"),
        ("echo_0_0", "3 requests (id 'b', 'c') failed, restarting: gone"),
    ]


def test_a_dead_instance_is_restarted_and_serves_what_waited() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=BATCHING))
        slow = harness.instances[0]
        lost = harness.model.infer(make_request())
        await settle()
        waiting = harness.model.infer(make_request())
        slow.fail(InstanceDiedError("Stub process 'echo_0_0' is not healthy."))
        with pytest.raises(InstanceDiedError, match="not healthy"):
            await lost
        await settle()
        assert slow.restarts == 1
        slow.release()
        await waiting
        assert harness.model.stats.restart_count == 1
        await harness.model.close()

    run(work())


def test_an_instance_that_dies_while_idle_is_restarted_before_the_next_request() -> None:
    async def work() -> None:
        harness = Harness(EchoBackend, make_config(batching=BATCHING))
        instance = harness.instances[0]
        instance.die(InstanceDiedError("gone"))
        request = harness.model.infer(make_request())
        await settle()
        assert instance.restarts == 1
        assert (await request).outputs
        await harness.model.close()

    run(work())


def test_an_instance_that_dies_as_it_has_answered_gets_no_batch() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=BATCHING))
        slow = harness.instances[0]
        answered = harness.model.infer(make_request())
        await settle()
        waiting = harness.model.infer(make_request())
        slow.release()
        slow.die(InstanceDiedError("gone"))  # before the scheduler has heard of the answer
        assert (await answered).outputs
        await settle()
        assert slow.restarts == 1
        assert len(slow.batches) == 2
        slow.release()
        assert (await waiting).outputs
        await harness.model.close()

    run(work())


def test_an_instance_that_dies_as_it_is_back_is_restarted_again() -> None:
    async def work() -> None:
        harness = Harness(EchoBackend, make_config(batching=BATCHING))
        instance = harness.instances[0]
        restart = instance.restart

        async def restart_in_vain() -> None:
            await restart()
            if instance.restarts == 1:
                instance.die(InstanceDiedError("gone again"))

        instance.restart = restart_in_vain  # type: ignore[method-assign]
        instance.die(InstanceDiedError("gone"))
        request = harness.model.infer(make_request())
        await settle()
        assert (instance.restarts, request.done()) == (1, False)
        await harness.clock.advance(0.6)
        assert (await request).outputs
        assert (instance.restarts, len(instance.batches)) == (2, 1)
        await harness.model.close()

    run(work())


def test_an_instance_that_keeps_dying_backs_off_and_refuses_meanwhile() -> None:
    async def work() -> None:
        harness = Harness(FailingBackend, make_config(batching=BATCHING))
        instance = harness.instances[0]
        for restarts, back_off_s in enumerate((0.0, 0.5, 1.0), start=1):
            dying = harness.model.infer(make_request())
            await settle()
            assert isinstance(dying.exception(), InstanceDiedError)
            assert harness.model.healthy
            await harness.clock.advance(back_off_s + 0.1)
            assert instance.restarts == restarts
        dying = harness.model.infer(make_request())
        await settle()
        assert isinstance(dying.exception(), InstanceDiedError)
        assert not harness.model.healthy
        with pytest.raises(BackendError, match="not healthy"):
            harness.model.infer(make_request())
        await harness.clock.advance(2.1)
        assert instance.restarts == 4
        assert harness.model.healthy
        await harness.model.close()

    run(work())


def test_a_restart_that_fails_is_tried_again() -> None:
    async def work() -> None:
        harness = Harness(FailingBackend, make_config(batching=BATCHING))
        harness.instances[0].restart_failures = 2
        with pytest.raises(InstanceDiedError):
            await harness.model.infer(make_request())
        await settle()
        assert not harness.model.healthy
        await harness.clock.advance(0.6)
        await harness.clock.advance(1.1)
        assert harness.model.healthy
        await harness.model.close()

    run(work())


def test_closing_refuses_what_waits_and_what_comes() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=BATCHING))
        running = harness.model.infer(make_request())
        await settle()
        waiting = harness.model.infer(make_request())
        await harness.model.close()
        with pytest.raises(UnavailableError):
            await waiting
        with pytest.raises(UnavailableError):
            harness.model.infer(make_request())
        running.cancel()

    run(work())


def test_drain_waits_for_everything_in_flight() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend, make_config(batching=BATCHING))
        running = harness.model.infer(make_request())
        await settle()
        draining = asyncio.ensure_future(harness.model.drain())
        await settle()
        assert not draining.done()
        harness.instances[0].release()
        await running
        await draining
        await harness.model.close()

    run(work())
