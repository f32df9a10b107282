"""Requests that their model answers by itself: over an instance whose test decides what is sent and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from itertools import count

import msgspec
import pytest

from conch.backend_api import BatchResult, InstanceSpec, Output, ResponseSink, Unanswered
from conch.config.metrics_options import MetricsOptions
from conch.config.schema import DynamicBatching, ModelConfig
from conch.core.latencies import make_stats
from conch.core.stats import MAX_COUNTED_RESPONSES, ModelStats
from conch.errors import BackendError, ConchError, FailureReason
from conch.inference import InferRequest, InferResponse
from conch.tensor import DataType, Tensor
from conch.testing import FakeClock
from conch.testing.backends import EchoInstance
from conch.testing.clock import settle
from conch.trace import TIMESTAMPS, RequestTrace
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


def test_a_request_that_is_executed_twice_counts_as_one_inference_and_two_executions() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        instance = harness.instances[0]
        asked = Asked(harness)
        await settle()
        await instance.end(Unanswered.RESCHEDULED)
        instance.sinks[1].send(OUTPUT, True)
        await instance.end(Unanswered.OPEN)
        await asked.future
        stats = harness.model.stats
        assert (stats.inference_count, stats.execution_count) == (1, 2)
        assert stats.inference_stats["success"].count == 1
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


def counted(stats: ModelStats) -> list[dict[str, int]]:
    """The counts of each response number, those that are not zero."""
    return [
        {name: count for name in stat.__struct_fields__ if (count := getattr(stat, name).count)}
        for stat in stats.response_stats().values()
    ]


TENSORS = Output((Tensor("OUTPUT0", DataType.FP32, (1, 1), bytes(4)),), {})


def test_responses_are_counted_by_their_number() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        instance = harness.instances[0]
        Asked(harness)
        await settle()
        sink = instance.sinks[-1]
        await harness.clock.advance(0.000_005)
        sink.send(TENSORS, False)
        await harness.clock.advance(0.000_007)
        sink.send(BackendError("no"), False)
        sink.send(Output((), {}), False)
        sink.send(None, True)
        await instance.end(Unanswered.OPEN)
        assert counted(harness.model.stats) == [
            {"compute_infer": 1, "compute_output": 1, "success": 1},
            {"compute_infer": 1, "compute_output": 1, "fail": 1},
            {"compute_infer": 1, "empty_response": 1},
            {"compute_infer": 1, "empty_response": 1},
        ]
        found = harness.model.stats.response_stats()
        assert (found["0"].compute_infer.ns, found["1"].compute_infer.ns) == (5000, 7000)
        assert (found["0"].success.ns, found["1"].fail.ns, found["3"].empty_response.ns) == (5000, 7000, 0)
        Asked(harness)
        await settle()
        instance.sinks[-1].send(TENSORS, True)
        await instance.end(Unanswered.OPEN)
        assert counted(harness.model.stats)[0] == {"compute_infer": 2, "compute_output": 2, "success": 2}

    run(work())


@pytest.mark.parametrize("early", [False, True])
def test_a_trace_ends_when_the_execution_has_and_tells_its_times(early: bool) -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        instance = harness.instances[0]
        ended: list[RequestTrace] = []
        trace = RequestTrace(TIMESTAMPS, count(1).__next__, ended.append)
        trace.ends_with_answer = True
        harness.model.infer(make_request(trace=trace))
        await settle()
        if early:
            instance.sinks[-1].send(TENSORS, True)
            assert not ended
        await instance.end(Unanswered.OPEN)
        if not early:
            instance.sinks[-1].send(TENSORS, True)
        assert ended == [trace]
        assert sorted(name for name, _ in trace.moments) == [
            "COMPUTE_END",
            "COMPUTE_INPUT_END",
            "COMPUTE_OUTPUT_START",
            "COMPUTE_START",
            "INFER_RESPONSE_COMPLETE",
            "QUEUE_START",
            "REQUEST_END",
            "REQUEST_START",
        ]

    run(work())


def test_responses_to_a_request_that_was_given_up_count_as_cancelled() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        instance = harness.instances[0]
        asked = Asked(harness)
        await settle()
        asked.future.cancel()
        instance.sinks[-1].send(TENSORS, False)
        instance.sinks[-1].send(None, True)
        await instance.end(Unanswered.OPEN)
        assert counted(harness.model.stats) == [{"cancel": 1}, {"cancel": 1}]

    run(work())


def test_responses_of_a_model_that_is_not_decoupled_are_not_counted_by_number() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config(decoupled=False))
        instance = harness.instances[0]
        Asked(harness)
        await settle()
        instance.sinks[-1].send(TENSORS, True)
        await instance.end(Unanswered.OPEN)
        assert counted(harness.model.stats) == []

    run(work())


def test_a_stream_without_an_end_does_not_fill_the_statistics() -> None:
    stats = ModelStats()
    stats.record_response(MAX_COUNTED_RESPONSES, "success", 1, 1)
    assert stats.response_stats() == {}


def test_a_success_is_counted_with_the_times_of_its_execution_also_when_it_came_before_the_end() -> None:
    async def work() -> None:
        harness = Harness(HandedBackend, config())
        instance = harness.instances[0]
        asked = Asked(harness)
        await settle()
        instance.sinks[-1].send(TENSORS, True)
        assert asked.future.done()
        assert harness.model.stats.inference_stats["success"].count == 0
        await instance.end(Unanswered.OPEN)
        stats = harness.model.stats.inference_stats
        assert stats["success"].count == 1
        assert [stats[f"compute_{part}"].ns for part in ("input", "infer", "output")] == [1, 2, 3]

    run(work())


def test_the_time_to_the_first_response_is_kept_once_a_request() -> None:
    async def work() -> None:
        options = MetricsOptions(histogram_latencies=True)
        own = msgspec.structs.replace(config(), first_response_buckets=(10.0, 50.0))
        harness = Harness(HandedBackend, own, stats=make_stats(own, options, FakeClock()))
        instance = harness.instances[0]
        for _ in range(2):
            Asked(harness)
            await settle()
            await harness.clock.advance(0.02)
            instance.sinks[-1].send(TENSORS, False)
            await harness.clock.advance(1)
            instance.sinks[-1].send(TENSORS, False)
            instance.sinks[-1].send(None, True)
            await instance.end(Unanswered.OPEN)
        Asked(harness)
        await settle()
        instance.sinks[-1].send(None, True)
        await instance.end(Unanswered.OPEN)
        histogram = harness.model.stats.first_response_ms
        assert histogram is not None
        assert (histogram.bounds, histogram.counts, histogram.total) == ((10.0, 50.0), [0, 2, 0], 40)

    run(work())
