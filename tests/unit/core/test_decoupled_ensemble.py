"""Requests to ensembles with steps that answer any number of times."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import numpy as np
import pytest

from conch.config.schema import ModelConfig
from conch.core.metrics import Histogram
from conch.core.queue import RequestFuture
from conch.errors import BackendError, ConchError, FailureReason, InvalidArgumentError, UnavailableError
from conch.inference import InferRequest, InferResponse, RequestedOutput
from conch.tensor import DataType, Tensor
from conch.testing.clock import settle
from tests.unit.core.conftest import run
from tests.unit.core.ensembles import FakeStep, Pipe, make_ensemble, model_config, outputs, step

ONE = Tensor("X", DataType.FP32, (1, 1), b"ask.")

FIRST = make_ensemble(step("many", {"X": "X"}, {"Y": "part"}), step("one", {"X": "part"}, {"Y": "Y"}))
LAST = make_ensemble(step("one", {"X": "X"}, {"Y": "part"}), step("many", {"X": "part"}, {"Y": "Y"}))
TWICE = make_ensemble(step("many", {"X": "X"}, {"Y": "part"}), step("more", {"X": "part"}, {"Y": "Y"}))
DIAMOND = make_ensemble(
    step("many", {"X": "X"}, {"Y": "part"}),
    step("left", {"X": "part"}, {"Y": "l"}),
    step("right", {"X": "part"}, {"Y": "r"}),
    step("join", {"A": "l", "B": "r"}, {"SUM": "Y"}),
)


class Stream:
    """What a client of a stream gets: the data of each response, or the text of each error."""

    def __init__(self, pipe: Pipe, **fields: Any) -> None:
        self.got: list[str] = []
        self.future: RequestFuture = pipe.infer(InferRequest("pipe", "", (ONE,), **fields))
        self.future.on_response = self._take
        self.settled = 0
        self.future.on_settled = self._count

    def _take(self, response: InferResponse | ConchError) -> None:
        assert not self.future.done()
        self.got.append(data_of(response))

    def _count(self, _: object) -> None:
        self.settled += 1

    @property
    def last(self) -> str:
        """The data of the last response, "end" for none."""
        assert self.settled == 1
        response = self.future.result()
        return "end" if response.empty else data_of(response)


def data_of(response: InferResponse | ConchError) -> str:
    if isinstance(response, ConchError):
        return f"error: {response}"
    return " ".join(f"{tensor.name}={bytes(tensor.data).decode()}" for tensor in response.outputs)


def pipe(config: ModelConfig, *names: str) -> tuple[Any, ...]:
    """The ensemble and its steps; those whose name begins with m are decoupled."""
    steps = [
        FakeStep(model_config(name, "A B", "SUM") if name == "join" else model_config(name, decoupled=name[0] == "m"))
        for name in names
    ]
    return Pipe(config, *steps), *steps


def test_each_response_drives_the_next_step_on_its_own() -> None:
    async def work() -> None:
        first, many, one = pipe(FIRST, "many", "one")
        stream = Stream(first)
        many.respond(b"a---", b"b---")
        assert [bytes(request.inputs[0].data) for request in one.requests] == [b"a---", b"b---"]
        one.answer(number=0)
        one.answer(number=1)
        assert stream.got == ["Y=a---", "Y=b---"]
        assert not stream.future.done()
        many.finish()
        assert stream.last == "end"
        assert first.model.in_flight == 0

    run(work())


def test_responses_leave_in_the_order_in_which_they_are_made() -> None:
    async def work() -> None:
        first, many, one = pipe(FIRST, "many", "one")
        stream = Stream(first)
        many.respond(b"a---", b"b---")
        one.answer(number=1)
        assert stream.got == ["Y=b---"]
        many.finish()
        one.answer(number=0)
        assert stream.last == "Y=a---"

    run(work())


def test_the_last_response_ends_the_request_where_nothing_else_is_under_way() -> None:
    async def work() -> None:
        first, many, one = pipe(FIRST, "many", "one")
        stream = Stream(first)
        many.finish(b"last")
        assert not stream.future.done()
        one.answer()
        assert (stream.got, stream.last) == ([], "Y=last")

    run(work())


def test_a_step_that_says_only_the_end_ends_the_request() -> None:
    async def work() -> None:
        first, many, one = pipe(FIRST, "many", "one")
        stream = Stream(first)
        many.finish()
        assert (stream.got, stream.last, one.requests) == ([], "end", [])

    run(work())


def test_the_responses_of_a_last_step_go_out_as_they_come() -> None:
    async def work() -> None:
        last, one, many = pipe(LAST, "one", "many")
        stream = Stream(last, id="me")
        one.answer()
        many.respond(b"a---", b"b---")
        assert stream.got == ["Y=a---", "Y=b---"]
        many.finish(b"c---")
        assert stream.last == "Y=c---"
        assert stream.future.result().id == "me"

    run(work())


def test_every_response_of_one_decoupled_step_is_a_request_to_the_next() -> None:
    async def work() -> None:
        twice, many, more = pipe(TWICE, "many", "more")
        stream = Stream(twice)
        many.respond(b"a---")
        many.finish(b"b---")
        more.respond(b"a1--", b"a2--", number=0)
        more.respond(b"b1--", number=1)
        more.finish(number=0)
        assert not stream.future.done()
        more.finish(b"b2--", number=1)
        assert stream.got == ["Y=a1--", "Y=a2--", "Y=b1--"]
        assert stream.last == "Y=b2--"

    run(work())


def test_what_one_response_led_to_meets_again_whatever_the_order_of_the_answers() -> None:
    async def work() -> None:
        diamond, many, left, right, join = pipe(DIAMOND, "many", "left", "right", "join")
        stream = Stream(diamond)
        many.respond(b"a---", b"b---")
        left.answer(number=1)
        right.answer(number=0)
        left.answer(number=0)
        right.answer(number=1)
        together = [[bytes(tensor.data) for tensor in request.inputs] for request in join.requests]
        assert together == [[b"a---", b"a---"], [b"b---", b"b---"]]
        join.answer(number=0)
        join.answer(number=1)
        many.finish()
        assert (stream.got, stream.last) == (["Y=a---", "Y=b---"], "end")

    run(work())


def test_an_output_that_was_there_before_waits_for_the_others() -> None:
    async def work() -> None:
        config = make_ensemble(
            step("many", {"X": "X"}, {"Y": "Z"}), step("one", {"X": "Z"}, {"Y": "Y"}), gives=outputs("Z", "Y")
        )
        both, many, one = pipe(config, "many", "one")
        stream = Stream(both)
        many.respond(b"a---")
        assert stream.got == []
        one.answer()
        assert stream.got == ["Z=a--- Y=a---"]
        early = Stream(both, outputs=(RequestedOutput("Z"),))
        many.respond(b"b---")
        assert early.got == ["Z=b---"]

    run(work())


def test_a_response_without_tensors_is_one_of_the_ensemble() -> None:
    async def work() -> None:
        last, one, many = pipe(LAST, "one", "many")
        stream = Stream(last)
        one.answer()
        on_response = many.futures[0].on_response
        assert on_response is not None
        on_response(InferResponse("many", "1", "", ()))
        assert stream.got == [""]

    run(work())


@pytest.mark.parametrize("final", [False, True])
def test_an_error_of_a_decoupled_step_ends_the_request_in_its_name(final: bool) -> None:
    async def work() -> None:
        first, many, one = pipe(FIRST, "many", "one")
        stream = Stream(first)
        many.respond(b"a---", b"b---")
        one.answer(number=0)
        if final:
            many.fail(BackendError("no luck"))
        else:
            many.respond_with(BackendError("no luck"))
        assert (stream.got, stream.settled) == (["Y=a---"], 1)
        error = stream.future.exception()
        assert isinstance(error, BackendError)
        assert str(error) == "in ensemble 'pipe', step 'many': no luck"
        assert one.cancelled == 1
        assert many.cancelled == (0 if final else 1)
        assert first.model.in_flight == 0
        assert first.stats.inference_stats["fail"].count == 1

    run(work())


def test_an_error_of_a_following_step_gives_the_decoupled_one_up() -> None:
    async def work() -> None:
        first, many, one = pipe(FIRST, "many", "one")
        stream = Stream(first)
        many.respond(b"a---")
        one.fail(BackendError("no luck"))
        assert str(stream.future.exception()) == "in ensemble 'pipe', step 'one': no luck"
        assert many.cancelled == 1

    run(work())


def test_a_following_step_that_refuses_ends_the_request() -> None:
    async def work() -> None:
        first, many, one = pipe(FIRST, "many", "one")
        stream = Stream(first)
        one.refusal = InvalidArgumentError("too long")
        many.respond(b"a---")
        assert str(stream.future.exception()) == "in ensemble 'pipe', step 'one': too long"
        assert (stream.settled, many.cancelled) == (1, 1)

    run(work())


def test_a_first_step_that_refuses_fails_the_request_at_once() -> None:
    async def work() -> None:
        first, many, _ = pipe(FIRST, "many", "one")
        many.refusal = InvalidArgumentError("too long")
        with pytest.raises(InvalidArgumentError, match="in ensemble 'pipe', step 'many': too long"):
            Stream(first)
        assert first.model.in_flight == 0

    run(work())


def test_giving_up_cancels_every_step_that_runs() -> None:
    async def work() -> None:
        first, many, one = pipe(FIRST, "many", "one")
        stream = Stream(first)
        many.respond(b"a---", b"b---")
        assert stream.future.cancel()
        assert (many.cancelled, one.cancelled, first.model.in_flight) == (1, 2, 0)
        assert first.stats.failures[FailureReason.CANCELED] == 1
        await first.model.drain()

    run(work())


def test_a_client_for_one_response_gets_the_last() -> None:
    async def work() -> None:
        last, one, many = pipe(LAST, "one", "many")
        future = last.infer(InferRequest("pipe", "", (ONE,)))
        one.answer()
        many.respond(b"a---")
        many.finish(b"b---")
        assert data_of(future.result()) == "Y=b---"

    run(work())


def test_a_request_counts_once_with_the_times_of_all_its_steps() -> None:
    async def work() -> None:
        first, many, one = pipe(FIRST, "many", "one")
        Stream(first)
        many.respond(b"a---")
        many.finish(b"b---")
        one.answer(number=0)
        one.answer(number=1)
        stats = first.stats.inference_stats
        assert (stats["success"].count, first.stats.inference_count, first.stats.execution_count) == (1, 1, 1)
        assert [stats[f"compute_{part}"].ns for part in ("input", "infer", "output")] == [3, 6, 9]

    run(work())


def test_closing_ends_what_is_under_way() -> None:
    async def work() -> None:
        first, many, _ = pipe(FIRST, "many", "one")
        stream = Stream(first)
        draining = asyncio.ensure_future(first.model.drain())
        await settle()
        await first.model.close()
        await draining
        assert isinstance(stream.future.exception(), UnavailableError)
        assert many.cancelled == 1
        with pytest.raises(UnavailableError, match="Server is stopping"):
            Stream(first)

    run(work())


def test_no_more_responses_than_the_limit_are_at_the_next_step() -> None:
    async def work() -> None:
        config = make_ensemble(step("many", {"X": "X"}, {"Y": "part"}), step("one", {"X": "part"}, {"Y": "Y"}), limit=2)
        first, many, one = pipe(config, "many", "one")
        stream = Stream(first)
        many.respond(b"a---", b"b---", b"c---", b"d---")
        many.finish()
        assert len(one.requests) == 2
        one.answer(number=0)
        await settle()
        assert len(one.requests) == 3
        for number in (1, 2, 3):
            one.answer(number=number)
            await settle()
        assert (stream.got, stream.last) == (["Y=a---", "Y=b---", "Y=c---"], "Y=d---")

    run(work())


def test_a_decoupled_step_is_told_how_far_its_responses_got() -> None:
    async def work() -> None:
        config = make_ensemble(step("many", {"X": "X"}, {"Y": "part"}), step("one", {"X": "part"}, {"Y": "Y"}), limit=2)
        first, many, one = pipe(config, "many", "one")
        stream = Stream(first)
        assert many.requests[0].response_window == 2
        flow, told = many.futures[0].flow, list[int]()
        assert flow is not None
        many.respond(b"a---", b"b---", b"c---", b"d---")
        flow.when_taken(2, told.append)
        flow.when_taken(3, told.append)
        assert told == [2]
        one.answer(number=0)
        await settle()
        assert told == [2, 3]
        flow.when_taken(4, told.append)
        stream.future.cancel()
        assert told == [2, 3, 4]

    run(work())


@pytest.mark.parametrize(
    "config",
    [
        FIRST,
        make_ensemble(step("one", {"X": "X"}, {"Y": "part"}), step("many", {"X": "part"}, {"Y": "Y"}), limit=2),
        make_ensemble(step("many", {"X": "X"}, {"Y": "part"}), step("many", {"X": "part"}, {"Y": "Y"}), limit=2),
    ],
    ids=["no limit", "nothing comes after it", "it would wait for itself"],
)
def test_other_decoupled_steps_answer_as_fast_as_they_can(config: ModelConfig) -> None:
    async def work() -> None:
        first, many, one = pipe(config, "many", "one")
        Stream(first)
        if one.requests:
            one.answer()
        assert [request.response_window for request in many.requests] == [0]
        assert many.futures[0].flow is None

    run(work())


def test_tensors_go_with_their_branch() -> None:
    async def work() -> None:
        first, many, one = pipe(FIRST, "many", "one")
        stream = Stream(first)
        array = np.zeros(4, np.uint8)
        alive = weakref.ref(array)
        respond = many.futures[0].on_response
        assert respond is not None
        respond(InferResponse("many", "1", "", (Tensor("Y", DataType.FP32, (1, 1), array.data),)))
        del array
        assert alive() is not None
        one.answer()
        one.requests.clear()
        one.futures.clear()
        assert alive() is None
        many.finish()
        assert stream.last == "end"

    gc.disable()
    try:
        run(work())
    finally:
        gc.enable()


def test_what_is_held_when_the_request_ends_is_forgotten() -> None:
    async def work() -> None:
        config = make_ensemble(step("many", {"X": "X"}, {"Y": "part"}), step("one", {"X": "part"}, {"Y": "Y"}), limit=1)
        first, many, one = pipe(config, "many", "one")
        given_up = Stream(first)
        many.respond(b"a---", b"b---", b"c---")
        given_up.future.cancel()
        await settle()
        stream = Stream(first)
        many.finish(b"d---")
        await settle()
        assert [bytes(request.inputs[0].data) for request in one.requests] == [b"a---", b"d---"]
        one.answer()
        assert stream.last == "Y=d---"

    run(work())


def test_a_model_that_becomes_decoupled_is_not_used_before_the_ensemble_knows() -> None:
    async def work() -> None:
        plain = Pipe(FIRST, FakeStep(model_config("many")), FakeStep(model_config("one")))
        plain.infer(InferRequest("pipe", "", (ONE,)))
        plain.steps["many"] = FakeStep(model_config("many", decoupled=True))
        with pytest.raises(UnavailableError, match="'many' has become decoupled"):
            plain.infer(InferRequest("pipe", "", (ONE,)))

    run(work())


def test_the_time_to_the_first_response_of_an_ensemble_is_kept() -> None:
    async def work() -> None:
        last, one, many = pipe(LAST, "one", "many")
        last.stats.first_response_ms = histogram = Histogram((10.0,), [0, 0])
        Stream(last)
        one.answer()
        await last.clock.advance(0.02)
        many.respond(b"a---", b"b---")
        many.finish(b"c---")
        assert (histogram.counts, histogram.total) == ([0, 1], 20)

    run(work())
