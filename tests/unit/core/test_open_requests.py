"""Requests that their model answers by itself: over an instance whose test decides what is sent and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import msgspec
import pytest

from conch.backend_api import BatchResult, InstanceSpec, Output, ResponseSink, Unanswered
from conch.config.schema import DynamicBatching, ModelConfig
from conch.errors import BackendError, ConchError, FailureReason
from conch.inference import InferRequest, InferResponse
from conch.testing.backends import EchoInstance
from conch.testing.clock import settle
from tests.unit.core.conftest import Harness, make_config, make_request, run

OUTPUT = Output((), {"number": 1})


class HandedInstance(EchoInstance):
    """Hands requests and sinks to the test, which settles each execution."""

    def __init__(self, spec: InstanceSpec) -> None:
        super().__init__(spec)
        self.sinks: list[ResponseSink] = []
        self.executions: list[asyncio.Future[BatchResult]] = []

    def execute_into(self, requests: Sequence[InferRequest], sinks: Sequence[ResponseSink]) -> Awaitable[BatchResult]:
        self.batches.append(requests)
        self.sinks += sinks
        self.executions.append(asyncio.get_running_loop().create_future())
        return self.executions[-1]

    async def end(self, *outcomes: Output | ConchError | Unanswered) -> None:
        """End the last execution that way."""
        self.executions[-1].set_result(BatchResult(outcomes, 1, 2, 3))
        await settle()


class HandedBackend:
    """Loads them."""

    instance_class = HandedInstance


def config(*, decoupled: bool = True, ordered: bool = False) -> ModelConfig:
    batching = DynamicBatching(preserve_ordering=True) if ordered else None
    return msgspec.structs.replace(make_config(batching=batching), decoupled=decoupled)


class Asked:
    """One request under way and what came for it."""

    def __init__(self, harness: Harness) -> None:
        self.responses: list[InferResponse | ConchError] = []
        self.future = harness.model.infer(make_request())
        self.future.on_response = self.responses.append


def test_responses_go_out_as_they_come_and_the_last_one_settles_the_request() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        instance = harness.instances[0]
        asked = Asked(harness)
        await settle()
        [sink] = instance.sinks
        sink.send(OUTPUT, False)
        sink.send(BackendError("one went wrong"), False)
        assert [type(response) for response in asked.responses] == [InferResponse, BackendError]
        await instance.end(Unanswered.OPEN)
        assert not asked.future.done()
        assert harness.model.in_flight == 1
        sink.send(OUTPUT, False)
        sink.send(None, True)
        sink.send(OUTPUT, True)  # too late
        assert asked.future.result().empty
        assert len(asked.responses) == 3
        assert harness.model.in_flight == 0
        assert harness.model.stats.inference_count == 1
        await harness.model.close()

    run(work())


def test_a_request_answered_within_its_execution_is_in_flight_until_that_ends() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        asked = Asked(harness)
        await settle()
        harness.instances[0].sinks[0].send(OUTPUT, True)
        assert not asked.future.result().empty
        assert harness.model.in_flight == 1
        await harness.instances[0].end(Unanswered.OPEN)
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())


def test_the_instance_executes_the_next_batch_while_requests_are_open() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        instance = harness.instances[0]
        first = Asked(harness)
        await settle()
        await instance.end(Unanswered.OPEN)
        second = Asked(harness)
        await settle()
        instance.sinks[1].send(OUTPUT, True)
        await instance.end(Unanswered.OPEN)
        assert second.future.done()
        assert not first.future.done()
        instance.sinks[0].send(BackendError("over"), True)
        with pytest.raises(BackendError, match="over"):
            first.future.result()
        assert harness.model.stats.failures[FailureReason.BACKEND] == 1
        await harness.model.drain()
        await harness.model.close()

    run(work())


def test_a_model_that_is_not_decoupled_answers_once_when_it_says_so() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config(decoupled=False))
        asked = Asked(harness)
        await settle()
        harness.instances[0].sinks[0].send(OUTPUT, False)
        await harness.instances[0].end(Unanswered.OPEN)
        assert not asked.future.done()
        harness.instances[0].sinks[0].send(None, True)
        assert asked.responses == []
        assert asked.future.result().parameters == {"number": 1}
        assert not asked.future.result().empty
        await harness.model.close()

    run(work())


def test_a_batch_that_fails_ends_only_what_is_still_open() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        instance = harness.instances[0]
        answered = Asked(harness)
        await settle()
        instance.sinks[0].send(OUTPUT, True)
        instance.executions[-1].set_exception(BackendError("late"))
        await settle()
        assert answered.future.result().parameters == {"number": 1}
        failed = Asked(harness)
        await settle()
        instance.executions[-1].set_exception(BackendError("early"))
        await settle()
        with pytest.raises(BackendError, match="early"):
            failed.future.result()
        instance.sinks[1].send(OUTPUT, True)  # nobody waits for it
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())


def test_a_client_that_gives_up_is_seen_by_the_model_and_hears_no_more() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        asked = Asked(harness)
        await settle()
        [sink] = harness.instances[0].sinks
        assert not sink.cancelled
        asked.future.cancel()
        assert sink.cancelled
        sink.send(OUTPUT, False)
        assert asked.responses == []
        await harness.instances[0].end(Unanswered.OPEN)
        assert harness.model.in_flight == 1
        sink.send(None, True)
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())


def test_a_rescheduled_request_is_executed_again_and_answered_then() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        instance = harness.instances[0]
        asked = Asked(harness)
        await settle()
        instance.sinks[0].send(OUTPUT, False)
        await instance.end(Unanswered.RESCHEDULED)
        assert len(instance.batches) == 2
        assert instance.sinks[1] is instance.sinks[0]
        instance.sinks[1].send(OUTPUT, True)
        await instance.end(Unanswered.OPEN)
        assert asked.future.done()
        assert len(asked.responses) == 1
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())


def test_a_rescheduled_request_whose_client_gave_up_is_dropped() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        asked = Asked(harness)
        await settle()
        asked.future.cancel()
        await harness.instances[0].end(Unanswered.RESCHEDULED)
        assert len(harness.instances[0].batches) == 1
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())
