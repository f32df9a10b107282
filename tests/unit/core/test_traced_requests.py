"""What a model notes in the trace of a request, and in verbose logs."""

from __future__ import annotations

import asyncio
import logging
from itertools import count

import msgspec
import pytest

from conch.backend_api import BatchResult
from conch.core.traced_future import TracedFuture
from conch.errors import BackendError
from conch.inference import InferRequest
from conch.testing import SlowBackend
from conch.testing.clock import settle
from conch.trace import TIMESTAMPS, RequestTrace
from tests.unit.core.conftest import Harness, make_config, make_request, run

COMPUTE = ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]


class Traced:
    """A request with a trace; `ended` tells how often the trace has ended."""

    def __init__(self) -> None:
        self.ended = 0
        self.trace = RequestTrace(TIMESTAMPS, count(1).__next__, self._end)
        self.request: InferRequest = msgspec.structs.replace(make_request(id="r1"), trace=self.trace)

    def _end(self, trace: RequestTrace) -> None:
        self.ended += 1

    @property
    def moments(self) -> list[str]:
        return [name for name, _ in self.trace.moments]


def test_an_answered_request_has_all_moments_and_ends_once_it_was_sent() -> None:
    async def work() -> None:
        harness, traced = Harness(SlowBackend(), make_config()), Traced()
        future = harness.model.infer(traced.request)
        await settle()
        harness.instances[0].release()
        await future
        assert traced.moments == ["REQUEST_START", "QUEUE_START", *COMPUTE, "INFER_RESPONSE_COMPLETE", "REQUEST_END"]
        assert (traced.trace.model_name, traced.trace.model_version, traced.trace.request_id) == ("echo", 1, "r1")
        assert traced.ended == 0
        traced.trace.end()
        assert traced.ended == 1
        await harness.model.close()

    run(work())


def test_a_failed_request_ends_with_its_error() -> None:
    async def work() -> None:
        harness, traced = Harness(SlowBackend(), make_config()), Traced()
        future = harness.model.infer(traced.request)
        await settle()
        harness.instances[0].fail(BackendError("it broke"))
        with pytest.raises(BackendError):
            await future
        assert traced.moments == ["REQUEST_START", "QUEUE_START", *COMPUTE, "INFER_RESPONSE_COMPLETE", "REQUEST_END"]
        assert (traced.trace.error, traced.ended) == ("it broke", 1)
        await harness.model.close()

    run(work())


def test_a_request_that_is_given_up_ends_then() -> None:
    async def work() -> None:
        harness, traced = Harness(SlowBackend(), make_config()), Traced()
        future = harness.model.infer(traced.request)
        assert isinstance(future, TracedFuture)
        assert future.cancel()
        assert not future.cancel()
        assert (traced.trace.error, traced.ended) == ("request was cancelled", 1)
        await harness.model.close()

    run(work())


def test_a_request_without_a_trace_costs_no_traced_future() -> None:
    async def work() -> None:
        harness = Harness(SlowBackend(), make_config())
        future = harness.model.infer(make_request())
        assert not isinstance(future, TracedFuture)
        future.cancel()
        await asyncio.sleep(0)
        await harness.model.close()

    run(work())


def test_verbose_logs_name_the_request(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        harness = Harness(SlowBackend(), make_config())
        harness.model.infer(make_request(id="r1")).cancel()
        await harness.model.close()

    with caplog.at_level(logging.DEBUG, "conch.core.model"):
        run(work())
    (told,) = [each for each in caplog.records if each.name == "conch.core.model"]
    assert told.getMessage() == "model 'echo' version 1: request id 'r1', batch size 1"
    assert vars(told)["request_id"] == "r1"


def test_an_error_for_one_request_of_a_batch_is_traced() -> None:
    async def work() -> None:
        harness, traced = Harness(SlowBackend(), make_config()), Traced()
        instance = harness.instances[0]
        instance.answer = lambda requests: BatchResult([BackendError("not this one")], 1, 2, 3)
        future = harness.model.infer(traced.request)
        await settle()
        instance.release()
        with pytest.raises(BackendError, match="not this one"):
            await future
        assert traced.moments[2:6] == COMPUTE
        assert traced.ended == 1
        await harness.model.close()

    run(work())
