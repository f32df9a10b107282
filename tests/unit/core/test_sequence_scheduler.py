"""The sequence scheduler over fake instances and a clock that tests move."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from conch.backend_api import BatchResult, InstanceSpec, ModelSource, Output
from conch.config.schema import (
    DirectSequences,
    ModelConfig,
    ModelInput,
    ModelOutput,
    OldestSequences,
    SequenceBatching,
    SequenceControl,
    SequenceState,
)
from conch.config.sequences import with_sequence_tensors
from conch.core.batch_hold import NO_HOLDS, Holds
from conch.core.metrics import CustomMetrics
from conch.core.model import Model
from conch.core.queue import RequestFuture
from conch.core.scheduling import Respond
from conch.core.sequence_scheduler import SequenceScheduler
from conch.core.sequence_states import SequenceStates
from conch.core.sequence_strategies import sequence_scheduler
from conch.core.stats import ModelStats
from conch.errors import FailureReason, InstanceDiedError, InvalidArgumentError, RejectedError, UnavailableError
from conch.inference import SEQUENCE_END, SEQUENCE_START, InferRequest
from conch.tensor import DataType, Tensor
from conch.testing import FakeClock, SlowBackend
from conch.testing.clock import settle
from tests.unit.core.conftest import make_config, make_request, run

START, END = SEQUENCE_START, SEQUENCE_END
CONTROLS = (
    SequenceControl("START", "START", DataType.INT32, (0, 1)),
    SequenceControl("END", "END", DataType.FP32, (-1, 1)),
    SequenceControl("READY", "READY", DataType.BOOL, (0, 1)),
    SequenceControl("CORRID", "CORRID", DataType.UINT64),
)
DIRECT = SequenceBatching(DirectSequences(), 1_000_000, CONTROLS)
OLDEST = SequenceBatching(OldestSequences(max_candidate_sequences=2), 1_000_000, CONTROLS)


def sequences(batching: SequenceBatching, max_batch_size: int = 2, **fields: Any) -> ModelConfig:
    return msgspec.structs.replace(make_config(max_batch_size=max_batch_size, **fields), sequence_batching=batching)


class SequenceHarness:
    """A model of sequences over instances that execute until they are released."""

    def __init__(self, config: ModelConfig, instances: int = 1, holds: Holds = NO_HOLDS, backend: Any = SlowBackend):
        self.clock = FakeClock()
        source = ModelSource(config.name, 1, Path("/nowhere"), {})
        executed = with_sequence_tensors(config)
        self.instances = [
            backend.instance_class(InstanceSpec(source, executed, f"echo_0_{i}", "CPU", 0, CustomMetrics()))
            for i in range(instances)
        ]
        labelled = [(f"echo_0_{i}", instance) for i, instance in enumerate(self.instances)]
        states = SequenceStates(config, Path("/nowhere"))

        def make_scheduling(stats: ModelStats, respond: Respond) -> SequenceScheduler:
            return sequence_scheduler(config, labelled, states, stats, respond, self.clock, holds)

        self.model = Model(config, 1, Path("/nowhere"), make_scheduling, self.clock)

    def ask(self, value: float, sequence: int | str, flags: int = 0, **fields: Any) -> RequestFuture:
        return self.model.infer(make_request((value,), correlation_id=sequence, flags=flags, **fields))

    async def release(self, instance: int = 0) -> None:
        self.instances[instance].release()
        await settle()

    def values(self, instance: int = 0) -> list[list[float]]:
        """What was executed: a list a batch, of the first element of each request."""
        return [[value(request, "INPUT0") for request in batch] for batch in self.instances[instance].batches]

    def controls(self, batch: int, place: int) -> tuple[float, ...]:
        request = self.instances[0].batches[batch][place]
        return tuple(value(request, name) for name in ("START", "END", "READY", "CORRID"))


def value(request: InferRequest, name: str) -> float:
    tensor = request.input(name)
    assert tensor is not None
    return float(tensor.as_numpy().reshape(-1)[0])


def test_a_model_is_told_where_in_the_sequence_each_request_stands() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST))
        for number, flags in enumerate((START, 0, END)):
            answer = harness.ask(number, 7, flags)
            await settle()
            await harness.release()
            assert (await answer).outputs[0].as_numpy().tolist() == [[number]]
        assert [harness.controls(batch, 0) for batch in range(3)] == [(1, -1, 1, 7), (0, -1, 1, 7), (0, 1, 1, 7)]
        assert harness.instances[0].batches[0][0].input("START").shape == (1, 1)
        await harness.model.close()

    run(work())


def test_the_next_direct_batch_is_sent_before_the_last_one_is_answered() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(DIRECT))
        first = harness.ask(10.0, 1, START)
        await settle()
        second = harness.ask(20.0, 2, START)
        batches_sent: list[int] = []
        first.on_settled = lambda _: batches_sent.append(len(harness.instances[0].batches))
        await harness.release()
        assert batches_sent == [2]
        assert first.result().outputs[0].as_numpy().tolist() == [[10.0]]
        await harness.release()
        assert second.result().outputs[0].as_numpy().tolist() == [[20.0]]
        await harness.model.close()

    run(work())


def test_controls_of_a_model_without_batches_have_one_dimension() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(DIRECT, max_batch_size=0))
        request = InferRequest(
            "echo", "", (Tensor.from_numpy("INPUT0", np.ones(1, np.float32), DataType.FP32),),
            correlation_id=7, flags=START,
        )  # fmt: skip
        answer = harness.model.infer(request)
        await settle()
        await harness.release()
        await answer
        assert harness.instances[0].batches[0][0].input("CORRID").shape == (1,)
        await harness.model.close()

    run(work())


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "must specify a non-zero or non-empty correlation ID"),
        ({"correlation_id": ""}, "must specify a non-zero or non-empty correlation ID"),
        (
            {"correlation_id": 42},
            "inference request for sequence 42 to model 'echo' must specify the START flag on the first request",
        ),
        ({"correlation_id": 42, "flags": END}, "must specify the START flag"),
        ({"correlation_id": "x", "flags": START}, "must have a number as its id, got a string"),
    ],
)
def test_a_request_that_belongs_to_no_sequence_is_refused(fields: dict[str, Any], text: str) -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST))
        with pytest.raises(InvalidArgumentError, match=text):
            harness.model.infer(make_request((1.0,), **fields))
        assert harness.model.in_flight == 0
        assert harness.model.stats.pending_count == 0
        await harness.model.close()

    run(work())


def test_a_request_that_is_a_batch_is_refused() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST))
        with pytest.raises(InvalidArgumentError, match="must specify batch-size 1 due to requirements of sequence"):
            harness.model.infer(make_request([[1.0], [2.0]], correlation_id=1, flags=START))
        await harness.model.close()

    run(work())


def test_sequences_of_one_instance_share_its_batches() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST))
        answers = [harness.ask(1, 1, START), harness.ask(2, 2, START), harness.ask(11, 1), harness.ask(21, 2)]
        await settle()
        await harness.release()
        await harness.release()
        await asyncio.gather(*answers)
        assert harness.values() == [[1, 2], [11, 21]]
        await harness.model.close()

    run(work())


def test_requests_of_one_sequence_are_never_in_one_batch() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST, max_batch_size=8))
        answers = [harness.ask(number, 1, START if number == 0 else 0) for number in range(3)]
        await settle()
        for _ in range(3):
            await harness.release()
        await asyncio.gather(*answers)
        assert harness.values() == [[0], [1], [2]]
        await harness.model.close()

    run(work())


def test_sequences_are_spread_over_instances_and_stay_where_they_are() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST), instances=2)
        answers = [harness.ask(sequence, sequence, START) for sequence in (1, 2, 3)]
        await settle()
        answers += [harness.ask(10 * sequence, sequence, END) for sequence in (1, 2, 3)]
        await settle()
        for _ in range(3):
            for instance in range(2):
                if harness.instances[instance]._running:
                    await harness.release(instance)
        await asyncio.gather(*answers)
        executed = [[number for batch in harness.values(instance) for number in batch] for instance in range(2)]
        assert [sorted(numbers) for numbers in executed] == [[1, 3, 10, 30], [2, 20]]
        await harness.model.close()

    run(work())


def test_a_sequence_without_a_slot_waits_for_the_end_of_another() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST))
        first = [harness.ask(1, 1, START), harness.ask(2, 2, START)]
        waiting = [harness.ask(3, 3, START), harness.ask(31, 3)]
        await settle()
        await harness.release()
        await asyncio.gather(*first)
        assert harness.values() == [[1, 2]]
        assert harness.model.stats.pending_count == 2
        last = harness.ask(11, 1, END)
        await settle()
        await harness.release()
        await last
        await harness.release()
        await harness.release()
        await asyncio.gather(*waiting)
        assert harness.values() == [[1, 2], [11], [3], [31]]
        with pytest.raises(InvalidArgumentError, match="must specify the START flag"):
            harness.ask(12, 1)
        await harness.model.close()

    run(work())


def test_a_sequence_that_waits_longer_than_its_timeout_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST))
        first = [harness.ask(1, 1, START), harness.ask(2, 2, START)]
        late = [harness.ask(3, 3, START), harness.ask(31, 3, timeout_us=500_000)]
        await settle()
        await harness.clock.advance(0.6)
        for answer in late:
            with pytest.raises(RejectedError, match="timeout of the corresponding sequence has been expired"):
                await answer
        assert harness.model.stats.failures[FailureReason.REJECTED] == 2
        with pytest.raises(InvalidArgumentError, match="must specify the START flag"):
            harness.ask(32, 3)
        await harness.release()
        await asyncio.gather(*first)
        await harness.model.close()

    with caplog.at_level(logging.INFO, "conch.core.scheduler"):
        run(work())
    assert "2 requests rejected after waiting in the queue longer than allowed" in caplog.text


def test_an_idle_sequence_ends_and_its_slot_goes_to_another() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST))
        first = [harness.ask(1, 1, START), harness.ask(2, 2, START)]
        waiting = harness.ask(3, 3, START)
        await settle()
        await harness.clock.advance(5.0)  # it is not idle while it is executed
        assert harness.values() == [[1, 2]]
        await harness.release()
        await asyncio.gather(*first)
        await harness.clock.advance(0.9)
        kept = harness.ask(21, 2)
        await settle()
        await harness.release()
        await kept
        await harness.clock.advance(0.2)
        await harness.release()
        await waiting
        assert harness.values() == [[1, 2], [21], [3]]
        with pytest.raises(InvalidArgumentError, match="must specify the START flag"):
            harness.ask(11, 1)
        await harness.model.close()

    run(work())


def test_a_direct_batch_has_each_sequence_in_its_place_and_null_requests_between() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(DIRECT, max_batch_size=4))
        answers = [harness.ask(sequence, sequence, START) for sequence in (1, 2, 3)]
        await settle()
        await harness.release()
        await asyncio.gather(*answers)
        again = harness.ask(31, 3)
        await settle()
        await harness.release()
        await again
        assert harness.values() == [[1, 2, 3], [0, 0, 31]]
        assert harness.controls(1, 0) == (0, -1, 0, 0)
        assert harness.controls(1, 2) == (0, -1, 1, 3)
        stats = harness.model.stats
        assert (stats.inference_count, stats.execution_count, stats.pending_count) == (4, 2, 0)
        assert [batch.batch_size for batch in stats.batch_stats()] == [3]
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())


def test_a_direct_batch_waits_for_the_slot_utilization_but_not_longer_than_its_delay() -> None:
    async def work() -> None:
        strategy = DirectSequences(max_queue_delay_microseconds=100_000, minimum_slot_utilization=0.75)
        harness = SequenceHarness(sequences(msgspec.structs.replace(DIRECT, strategy=strategy), max_batch_size=4))
        answers = [harness.ask(1, 1, START), harness.ask(2, 2, START)]
        await settle()
        assert harness.values() == []
        await harness.clock.advance(0.05)
        answers.append(harness.ask(3, 3, START))
        await settle()
        assert harness.values() == [[1, 2, 3]]
        await harness.release()
        await asyncio.gather(*answers)
        late = harness.ask(11, 1)
        await settle()
        await harness.clock.advance(0.11)
        assert harness.values()[1:] == [[11]]
        await harness.release()
        await late
        await harness.model.close()

    run(work())


def test_direct_requests_of_another_shape_go_in_a_later_batch() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(DIRECT))
        answers = [
            harness.ask(1, 1, START),
            harness.model.infer(make_request((2.0, 2.5), correlation_id=2, flags=START)),
        ]
        await settle()
        await harness.release()
        await harness.release()
        await asyncio.gather(*answers)
        assert harness.values() == [[1, 0], [0, 2]]
        await harness.model.close()

    run(work())


def test_a_sequence_that_starts_again_goes_on_in_its_slot(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST))
        answers = [harness.ask(1, 1, START), harness.ask(2, 1, START | END), harness.ask(3, 1, START | END)]
        await settle()
        await harness.release()
        await harness.release()
        await asyncio.gather(*answers)
        assert "has a conflict" in caplog.text
        assert harness.values() == [[1, 3], [2]]
        await harness.model.close()

    run(work())


def test_a_cancelled_request_is_passed_over_and_still_ends_its_sequence() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST, max_batch_size=1))
        answers = [harness.ask(1, 1, START), harness.ask(2, 2, START)]
        gone = harness.ask(11, 1, END)
        waiting = harness.ask(3, 3, START | END)
        await settle()
        gone.cancel()
        assert harness.model.stats.failures[FailureReason.CANCELED] == 1
        for _ in range(3):
            await harness.release()
        await asyncio.gather(*answers, waiting)
        assert sorted(number for batch in harness.values() for number in batch) == [1, 2, 3]
        assert harness.model.in_flight == 0
        await harness.model.close()

    run(work())


def test_sequences_end_with_the_instance_that_knew_them() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST))
        first = harness.ask(1, 1, START)
        await settle()
        await harness.release()
        await first
        second = harness.ask(2, 2, START)
        await settle()
        harness.instances[0].fail(InstanceDiedError("Stub process 'echo_0_0' is not healthy."))
        await settle()
        with pytest.raises(InstanceDiedError):
            await second
        for sequence in (1, 2):
            with pytest.raises(InvalidArgumentError, match="must specify the START flag"):
                harness.ask(1, sequence)
        fresh = harness.ask(5, 1, START | END)
        await settle()
        await harness.release()
        await fresh
        await harness.model.close()

    run(work())


def test_closing_fails_what_waits_and_accepts_nothing_more() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(OLDEST, max_batch_size=1))
        running = harness.ask(1, 1, START)
        waiting = [harness.ask(11, 1), harness.ask(2, 2, START), harness.ask(3, 3, START)]
        await settle()
        await harness.model.close()
        for answer in waiting:
            with pytest.raises(UnavailableError, match="Server is stopping"):
                await answer
        await harness.release()
        await running
        assert harness.model.in_flight == 0
        with pytest.raises(UnavailableError, match="stopped accepting"):
            harness.ask(4, 4, START)

    run(work())


def test_batches_are_held_back_until_as_many_requests_wait_as_the_test_variables_say() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(DIRECT), holds=Holds(queued=3, backlog=1))
        answers = [harness.ask(1, 1, START), harness.ask(2, 2, START), harness.ask(11, 1)]
        await settle()
        assert harness.values() == []
        answers.append(harness.ask(3, 3, START))
        await settle()
        assert harness.values() == [[1, 2]]
        await harness.release()
        await harness.release()
        await asyncio.gather(*answers[:3])
        await harness.model.close()
        with pytest.raises(UnavailableError):
            await answers[3]

    run(work())


class AddingInstance(SlowBackend.instance_class):  # type: ignore[misc, name-defined]
    """Adds the input to the state, and answers the sum."""

    def answer(self, requests: Any) -> BatchResult:
        outputs = []
        for request in requests:
            total = value(request, "INPUT0") + value(request, "SUM_IN")
            made = np.array([[total]], dtype=np.float32)
            outputs.append(Output(tuple(Tensor.from_numpy(n, made, DataType.FP32) for n in ("OUTPUT0", "SUM_OUT")), {}))
        return BatchResult(outputs, 1, 2, 3)


class AddingBackend:
    instance_class = AddingInstance


@pytest.mark.parametrize("strategy", [DirectSequences(), OldestSequences(max_candidate_sequences=2)])
def test_states_go_from_one_request_of_a_sequence_to_the_next(
    strategy: DirectSequences | OldestSequences,
) -> None:
    async def work() -> None:
        state = SequenceState("SUM_IN", "SUM_OUT", DataType.FP32, (1,))
        batching = SequenceBatching(strategy, 1_000_000, CONTROLS, (state,))
        inputs = (ModelInput("INPUT0", DataType.FP32, (1,)),)
        outputs = (ModelOutput("OUTPUT0", DataType.FP32, (1,)),)
        harness = SequenceHarness(sequences(batching, inputs=inputs, outputs=outputs), backend=AddingBackend)
        sums = []
        for amount, sequence, flags in (
            (1, 1, START),
            (10, 2, START),
            (2, 1, 0),
            (20, 2, END),
            (4, 1, END),
            (5, 1, START),
        ):
            answer = harness.ask(amount, sequence, flags)
            await settle()
            await harness.release()
            response = await answer
            assert [output.name for output in response.outputs] == ["OUTPUT0"]
            sums.append(float(response.outputs[0].as_numpy()[0, 0]))
        assert sums == [1, 10, 3, 30, 7, 5]
        await harness.model.close()

    run(work())


def test_iterative_sequences_with_direct_have_no_places_of_their_own_in_a_batch() -> None:
    async def work() -> None:
        harness = SequenceHarness(sequences(msgspec.structs.replace(DIRECT, iterative_sequence=True)))
        first = harness.ask(1, 1, START)
        await settle()
        second = harness.ask(10, 2, START)  # with places, a null request would stand where sequence 1 has its own
        await harness.release()
        await first
        assert harness.values() == [[1], [10]]
        await harness.release()
        await second
        await harness.model.close()

    run(work())
