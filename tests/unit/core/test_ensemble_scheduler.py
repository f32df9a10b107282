"""Requests on their way through the steps of an ensemble."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import numpy as np
import pytest

from conch.config.schema import ModelConfig
from conch.core.queue import RequestFuture
from conch.errors import (
    BackendError,
    Code,
    ConchError,
    FailureReason,
    InvalidArgumentError,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from conch.inference import SEQUENCE_END, SEQUENCE_START, InferRequest, InferResponse, RequestedOutput
from conch.tensor import DataType, Tensor
from conch.testing.clock import settle
from tests.unit.core.conftest import run
from tests.unit.core.ensembles import FakeStep, Pipe, inputs, make_ensemble, model_config, outputs, step

ONE = Tensor("X", DataType.FP32, (1, 2), b"01234567")

CHAIN = make_ensemble(
    step("third", {"X": "b"}, {"Y": "Y"}), step("first", {"X": "X"}, {"Y": "a"}), step("second", {"X": "a"}, {"Y": "b"})
)
DIAMOND = make_ensemble(
    step("join", {"A": "l", "B": "r"}, {"SUM": "Y"}),
    step("left", {"X": "X"}, {"Y": "l"}),
    step("right", {"X": "X"}, {"Y": "r"}),
)


def request(**fields: Any) -> InferRequest:
    return InferRequest("pipe", "", fields.pop("inputs", (ONE,)), **fields)


def chain() -> tuple[Pipe, FakeStep, FakeStep, FakeStep]:
    steps = [FakeStep(model_config(name)) for name in ("first", "second", "third")]
    return Pipe(CHAIN, *steps), steps[0], steps[1], steps[2]


def diamond() -> tuple[Pipe, FakeStep, FakeStep, FakeStep]:
    left, right, join = (
        FakeStep(model_config("left")),
        FakeStep(model_config("right")),
        FakeStep(model_config("join", "A B", "SUM")),
    )
    return Pipe(DIAMOND, left, right, join), left, right, join


def error_of(future: RequestFuture) -> ConchError:
    error = future.exception()
    assert isinstance(error, ConchError)
    return error


def test_a_step_starts_in_the_moment_in_which_its_tensor_exists() -> None:
    async def work() -> None:
        pipe, first, second, third = chain()
        future = pipe.infer(request())
        assert (len(first.requests), len(second.requests)) == (1, 0)
        first.answer()
        assert (len(second.requests), len(third.requests)) == (1, 0)
        second.answer()
        third.answer()
        assert future.done()
        response = future.result()
        assert (response.model_name, response.model_version) == ("pipe", "1")
        assert response.outputs == (Tensor("Y", DataType.FP32, (1, 2), b"01234567"),)

    run(work())


def test_tensors_are_passed_on_by_reference() -> None:
    async def work() -> None:
        pipe, first, second, _ = chain()
        pipe.infer(request())
        assert first.requests[0].inputs[0] is ONE
        first.answer()
        assert second.requests[0].inputs[0].name == "X"
        assert second.requests[0].inputs[0].data is ONE.data

    run(work())


def test_branches_run_at_the_same_time_and_meet_in_any_order() -> None:
    async def work() -> None:
        for late in (0, 1):
            pipe, left, right, join = diamond()
            future = pipe.infer(request())
            assert len(left.requests) == len(right.requests) == 1
            (left, right)[1 - late].answer()
            assert not join.requests
            (left, right)[late].answer()
            assert [tensor.name for tensor in join.requests[0].inputs] == ["A", "B"]
            join.answer()
            assert future.result().outputs[0].name == "Y"

    run(work())


def test_everything_a_request_says_is_passed_on_to_every_step() -> None:
    async def work() -> None:
        pipe, first, second, _ = chain()
        said: dict[str, Any] = {
            "id": "me",
            "parameters": {"top_k": 3},
            "correlation_id": "s",
            "flags": SEQUENCE_START,
            "priority": 2,
            "timeout_us": 5,
        }
        pipe.infer(request(**said))
        first.answer()
        for got in (first.requests[0], second.requests[0]):
            assert {name: getattr(got, name) for name in said} == said
            assert got.outputs == (RequestedOutput("Y"),)
            assert got.model_version == ""

    run(work())


def test_the_response_names_the_sequence_and_the_request() -> None:
    async def work() -> None:
        pipe, *steps = chain()
        future = pipe.infer(request(id="me", correlation_id=7, flags=SEQUENCE_END))
        for fake in steps:
            fake.answer()
        assert future.result().id == "me"
        assert future.result().parameters == {"sequence_id": 7, "sequence_start": False, "sequence_end": True}

    run(work())


def test_only_steps_that_the_requested_output_needs_are_asked() -> None:
    async def work() -> None:
        config = make_ensemble(
            step("first", {"X": "X"}, {"Y": "Y"}), step("second", {"X": "X"}, {"Y": "Z"}), gives=outputs("Y", "Z")
        )
        first, second = FakeStep(model_config("first")), FakeStep(model_config("second"))
        pipe = Pipe(config, first, second)
        future = pipe.infer(request(outputs=(RequestedOutput("Z"),)))
        assert not first.requests
        second.answer()
        assert [tensor.name for tensor in future.result().outputs] == ["Z"]

    run(work())


def test_a_failed_step_ends_the_request_in_its_name_and_cancels_its_siblings() -> None:
    async def work() -> None:
        pipe, left, right, join = diamond()
        settled: list[object] = []
        future = pipe.infer(request())
        future.on_settled = settled.append
        left.fail(BackendError("no luck", Code.UNAVAILABLE))
        error = error_of(future)
        assert str(error) == "in ensemble 'pipe', step 'left': no luck"
        assert (error.code, error.reason) == (Code.UNAVAILABLE, FailureReason.BACKEND)
        assert right.cancelled == 1
        assert settled == [future]
        assert not join.requests
        assert pipe.model.in_flight == 0

    run(work())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InvalidArgumentError("bad shape for model 'left'"), "in ensemble 'pipe', bad shape for model 'left'"),
        (BackendError("instance 'left_0' died"), "in ensemble 'pipe', instance 'left_0' died"),
        (RejectedError("Request timeout expired"), "in ensemble 'pipe', step 'left': Request timeout expired"),
    ],
)
def test_a_step_is_named_once_and_its_error_keeps_code_and_reason(error: ConchError, text: str) -> None:
    async def work() -> None:
        pipe, left, *_ = diamond()
        future = pipe.infer(request())
        left.fail(error)
        assert str(error_of(future)) == text
        assert (error_of(future).code, error_of(future).reason) == (error.code, error.reason)

    run(work())


def test_a_first_step_that_refuses_the_request_fails_it_at_once() -> None:
    async def work() -> None:
        pipe, left, right, _ = diamond()
        right.refusal = InvalidArgumentError("too long")
        with pytest.raises(InvalidArgumentError, match="in ensemble 'pipe', step 'right': too long"):
            pipe.infer(request())
        assert left.cancelled == 1
        assert pipe.model.in_flight == 0
        assert pipe.stats.inference_stats["fail"].count == 1

    run(work())


def test_a_later_step_that_is_gone_fails_the_request() -> None:
    async def work() -> None:
        pipe, first, _, _ = chain()
        future = pipe.infer(request())
        del pipe.steps["second"]
        first.answer()
        assert isinstance(error_of(future), NotFoundError)
        assert str(error_of(future)) == "in ensemble 'pipe', Request for unknown model: 'second' is not found"

    run(work())


def test_a_model_that_was_loaded_again_gets_the_next_request() -> None:
    async def work() -> None:
        pipe, first, second, _ = chain()
        pipe.infer(request())
        pipe.steps["second"] = newer = FakeStep(model_config("second"))
        first.answer()
        assert (len(second.requests), len(newer.requests)) == (0, 1)

    run(work())


def test_giving_up_cancels_the_steps_that_run() -> None:
    async def work() -> None:
        pipe, left, right, join = diamond()
        future = pipe.infer(request())
        left.answer()
        assert future.cancel()
        assert (left.cancelled, right.cancelled, len(join.requests)) == (0, 1, 0)
        assert pipe.model.in_flight == 0
        assert pipe.stats.failures[FailureReason.CANCELED] == 1
        assert not future.cancel()

    run(work())


def test_two_steps_that_fail_in_the_same_turn_leave_no_unheard_error(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        pipe, left, right, _ = diamond()
        future = pipe.infer(request())
        right.futures[0].set_exception(BackendError("second"))  # its hook is called a turn later
        left.fail(BackendError("first"))
        hook = right.futures[0].on_settled
        assert hook is not None
        hook(right.futures[0])
        assert "first" in str(error_of(future))
        del pipe, left, right, hook
        await settle()

    run(work())
    assert "never retrieved" not in caplog.text


def test_a_tensor_that_a_step_does_not_make_is_left_out_of_the_next_request() -> None:
    async def work() -> None:
        pipe, left, right, join = diamond()
        pipe.infer(request())
        left.settle(left.futures[0], InferResponse("left", "1", "", ()))
        right.answer()
        assert [tensor.name for tensor in join.requests[0].inputs] == ["B"]

    run(work())


def test_a_step_can_do_without_an_optional_input_that_nobody_gave() -> None:
    async def work() -> None:
        config = make_ensemble(
            step("add", {"A": "X", "B": "W"}, {"SUM": "Y"}), takes=(*inputs("X"), *inputs("W", optional=True))
        )
        add = FakeStep(model_config("add", "A B", "SUM"))
        pipe = Pipe(config, add)
        pipe.infer(request())
        assert [tensor.name for tensor in add.requests[0].inputs] == ["A"]
        pipe.infer(request(inputs=(ONE, Tensor("W", DataType.FP32, (1, 2), b"76543210"))))
        assert [tensor.name for tensor in add.requests[1].inputs] == ["A", "B"]

    run(work())


@pytest.mark.parametrize(("batching", "shape"), [(8, (1, 2)), (0, (2,))])
def test_a_batch_of_one_and_no_batch_are_the_same_to_a_step(batching: int, shape: tuple[int, ...]) -> None:
    """The ensemble is of the other kind than its step."""

    async def work() -> None:
        config = make_ensemble(step("first", {"X": "X"}, {"Y": "Y"}), max_batch_size=8 - batching)
        first = FakeStep(model_config("first", max_batch_size=batching))
        pipe = Pipe(config, first)
        own = (1, 2) if not batching else (2,)
        future = pipe.infer(request(inputs=(Tensor("X", DataType.FP32, own, b"01234567"),)))
        assert first.requests[0].inputs[0].shape == shape
        first.answer()
        assert future.result().outputs[0].shape == own

    run(work())


def test_steps_answered_at_once_need_no_turn_of_the_loop() -> None:
    async def work() -> None:
        def at_once(asked: InferRequest) -> InferResponse:
            tensor = asked.inputs[0]
            return InferResponse(
                asked.model_name, "1", asked.id, (Tensor("Y", tensor.datatype, tensor.shape, tensor.data),)
            )

        pipe = Pipe(CHAIN, *(FakeStep(model_config(name), at_once) for name in ("first", "second", "third")))
        future = pipe.infer(request())
        assert future.done()
        assert future.result().outputs[0].data == ONE.data

    run(work())


def test_statistics_add_up_what_the_steps_took() -> None:
    async def work() -> None:
        pipe, *steps = chain()
        future = pipe.infer(request(inputs=(Tensor("X", DataType.FP32, (2, 1), b"01234567"),)))
        for fake in steps:
            fake.answer(compute=(10, 20, 30))
        found = pipe.stats.snapshot("pipe", 1)
        assert (found.inference_count, found.execution_count) == (2, 1)
        assert [found.inference_stats[phase].ns for phase in ("compute_input", "compute_infer", "compute_output")] == [
            30,
            60,
            90,
        ]
        assert [(batch.batch_size, batch.compute_infer.ns) for batch in found.batch_stats] == [(2, 60)]
        assert future.compute == (30, 60, 90)

    run(work())


def test_failures_are_no_executions() -> None:
    async def work() -> None:
        pipe, first, *_ = chain()
        future = pipe.infer(request())
        first.fail(BackendError("no luck"))
        assert "no luck" in str(error_of(future))
        found = pipe.stats.snapshot("pipe", 1)
        assert (found.execution_count, found.inference_stats["fail"].count) == (0, 1)

    run(work())


def test_draining_waits_for_requests_between_their_steps() -> None:
    async def work() -> None:
        pipe, *steps = chain()
        pipe.infer(request())
        draining = asyncio.ensure_future(pipe.model.drain())
        for fake in steps:
            await settle()
            assert not draining.done()
            fake.answer()
        await settle()
        assert draining.done()

    run(work())


def test_closing_fails_what_is_under_way_and_takes_nothing_more() -> None:
    async def work() -> None:
        pipe, first, *_ = chain()
        future = pipe.infer(request())
        await pipe.model.close()
        assert isinstance(error_of(future), UnavailableError)
        assert first.cancelled == 1
        with pytest.raises(UnavailableError, match="has stopped accepting"):
            pipe.infer(request())

    run(work())


def test_an_ensemble_is_healthy_while_all_its_steps_are() -> None:
    async def work() -> None:
        pipe, first, *_ = chain()
        assert pipe.model.healthy
        first.healthy = False
        assert not pipe.model.healthy
        first.healthy = True
        del pipe.steps["third"]
        assert not pipe.model.healthy

    run(work())


def test_the_time_of_each_step_is_in_the_verbose_log(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        pipe, *steps = chain()
        pipe.infer(request(id="me"))
        for fake in steps:
            await pipe.clock.advance(0.001)
            fake.answer()

    with caplog.at_level(logging.DEBUG, "conch.core.ensemble_scheduler"):
        run(work())
    assert "ensemble 'pipe', request id 'me': 3000 us" in caplog.text
    assert "'first' 0..1000, 'second' 1000..2000, 'third' 2000..3000" in caplog.text


def limited(limit: int) -> ModelConfig:
    return make_ensemble(step("first", {"X": "X"}, {"Y": "a"}), step("second", {"X": "a"}, {"Y": "Y"}), limit=limit)


def test_a_limit_holds_requests_back_before_a_step_and_in_their_order() -> None:
    async def work() -> None:
        first, second = FakeStep(model_config("first")), FakeStep(model_config("second"))
        pipe = Pipe(limited(1), first, second)
        futures = [pipe.infer(request(id=name)) for name in "abc"]
        assert [asked.id for asked in first.requests] == ["a"]
        first.answer()
        await settle()
        assert [asked.id for asked in first.requests] == ["a", "b"]
        first.answer()  # b is held before the second step, which has a: c may not start the first
        await settle()
        assert ([asked.id for asked in first.requests], [asked.id for asked in second.requests]) == (["a", "b"], ["a"])
        second.answer()
        await settle()
        assert ([asked.id for asked in first.requests][2:], [asked.id for asked in second.requests]) == (
            ["c"],
            ["a", "b"],
        )
        first.answer()
        for _ in range(2):
            second.answer()
            await settle()
        assert [future.result().id for future in futures] == ["a", "b", "c"]

    run(work())


def test_a_request_given_up_while_it_is_held_makes_way() -> None:
    async def work() -> None:
        first, second = FakeStep(model_config("first")), FakeStep(model_config("second"))
        pipe = Pipe(limited(1), first, second)
        futures = [pipe.infer(request(id=name)) for name in "abc"]
        futures[1].cancel()
        futures[0].cancel()
        await settle()
        assert [asked.id for asked in first.requests] == ["a", "c"]
        assert pipe.model.in_flight == 1

    run(work())


def test_many_held_requests_that_are_refused_all_end() -> None:
    async def work() -> None:
        first, second = FakeStep(model_config("first")), FakeStep(model_config("second"))
        pipe = Pipe(limited(1), first, second)
        futures = [pipe.infer(request(id=str(number))) for number in range(3000)]
        first.refusal = InvalidArgumentError("no")
        first.answer()
        await settle()
        second.answer()
        await settle()
        assert futures[0].result().id == "0"
        assert all(isinstance(error_of(future), InvalidArgumentError) for future in futures[1:])

    run(work())


def test_tensors_go_with_their_request() -> None:
    async def work() -> None:
        steps = [FakeStep(model_config(name)) for name in ("first", "second", "third")]
        array = np.zeros(4, np.uint8)
        alive = weakref.ref(array)
        future = Pipe(CHAIN, *steps).infer(InferRequest("pipe", "", (Tensor("X", DataType.FP32, (1, 1), array.data),)))
        del array
        for each in steps:
            each.answer()
        assert len(future.result().outputs) == 1
        assert alive() is not None
        del future
        for each in steps:
            each.requests.clear()
            each.futures.clear()
        assert alive() is None

    gc.disable()
    try:
        run(work())
    finally:
        gc.enable()
