"""Models that answer by themselves: response senders, decoupled models, rescheduling, cancellation."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conch.backend_api import Output, Unanswered
from conch.backends.python.instance import PythonInstance
from conch.core.response_flow import ResponseFlow
from conch.errors import BackendError, ConchError, InstanceDiedError
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor
from conch.trace import RequestTrace

from .conftest import EVALUATE, EVALUATE_CONFIG, Workshop, requested, run, until

DECOUPLED = "model_transaction_policy { decoupled: true }"

#: What the statements of the tests use.
PRELUDE = """!
import threading
FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
def said(text):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([text], dtype=object))])
answer = None
sender = request.get_response_sender()
"""


class Sink:
    """Keeps what a model sends: texts, errors as they are, "end" for the word that nothing follows."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.cancelled = False
        self.trace: RequestTrace | None = None
        self.final = asyncio.get_running_loop().create_future()
        self.flow: ResponseFlow | None = None

    def when_taken(self, count: int, callback: Callable[[int], None]) -> None:
        if self.flow is None:
            callback(count)
        else:
            self.flow.when_taken(count, callback)

    def send(self, outcome: Output | ConchError | None, final: bool) -> None:
        if isinstance(outcome, Output):
            self.received.append(outcome.tensors[0].as_numpy()[0].decode())
        else:
            self.received.append("end" if outcome is None else outcome)
        if final:
            assert not self.final.done()
            self.final.set_result(None)


def code(statements: str, **fields: Any) -> InferRequest:
    data = Tensor.from_numpy("CODE", np.array([(PRELUDE + statements).encode()], dtype=object), DataType.BYTES)
    return InferRequest("m", "1", (data,), **fields)


async def execute(instance: PythonInstance, *statements: str, sink: Sink | None = None) -> tuple[Sink, Any]:
    """Execute a batch of one; what its sink got so far, and what the execution says became of the request."""
    sink = sink or Sink()
    result = await instance.execute_into([code("\n".join(statements))], [sink])
    return sink, result.outputs[0]


@pytest.mark.parametrize("config", ["", DECOUPLED])
def test_a_response_and_its_end_may_be_sent_within_execute(workshop: Workshop, config: str) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + config) as instance:
            sink, outcome = await execute(instance, "sender.send(said('one')); sender.send(flags=FINAL)")
            assert outcome is Unanswered.OPEN
            assert sink.received == ["one", "end"]
            assert sink.final.done()

    run(body())


def test_a_decoupled_model_sends_any_number_of_responses_and_errors_after_execute(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + DECOUPLED) as instance:
            sink, outcome = await execute(
                instance,
                "go = threading.Event()",
                "def work(sender=sender, go=go):",
                "    go.wait()",
                "    for number in range(100): sender.send(said(str(number)))",
                "    sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError('no', 3)))",
                "    sender.send(said('last'), FINAL)",
                "threading.Thread(target=work).start()",
            )
            assert outcome is Unanswered.OPEN
            assert sink.received == []
            other, _ = await execute(instance, "go.set()", "sender.send(said('other'), FINAL)")
            await sink.final
            assert other.received == ["other"]
            assert sink.received[:100] == [str(number) for number in range(100)]
            assert isinstance(sink.received[100], BackendError)
            assert sink.received[100].message == "no"
            assert sink.received[101:] == ["last"]

    run(body())


def test_a_model_waits_for_those_who_take_its_responses(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + DECOUPLED) as instance:
            sink = Sink()
            sink.flow = flow = ResponseFlow()
            statements = "for number in range(9): sender.send(said(str(number)))\nsender.send(flags=FINAL)"
            executed = asyncio.ensure_future(instance.execute_into([code(statements, response_window=3)], [sink]))
            for taken in range(3):
                await until(lambda taken=taken: len(sink.received) == 3 + taken and flow._waiting)
                flow.take()
            await until(lambda: len(sink.received) == 6)
            flow.end()
            await executed
            await sink.final
            assert sink.received == [*map(str, range(9)), "end"]

    run(body())


def test_large_responses_reuse_shared_memory_while_they_stream(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + DECOUPLED) as instance:
            sink = Sink()
            statements = "for number in range(64): sender.send(said(chr(65 + number % 26) * (3 << 20)))"
            request = code(f"{statements}\nsender.send(flags=FINAL)", response_window=4)
            await instance.execute_into([request], [sink])
            await sink.final
            assert [text[:1] for text in sink.received[:3]] == ["A", "B", "C"]
            assert [len(text) for text in sink.received] == [3 << 20] * 64 + [3]
            assert instance._process is not None
            assert os.fstat(instance._process.outputs).st_size < 16 * (3 << 20)

    run(body())


def test_only_requested_outputs_are_sent(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + DECOUPLED) as instance:
            sink = Sink()
            request = code(
                "both = [pb_utils.Tensor(name, np.array([name], dtype=object)) for name in ('OUT', 'OTHER')]\n"
                "sender.send(pb_utils.InferenceResponse(both), FINAL)",
                outputs=requested("OTHER"),
            )
            await instance.execute_into([request], [sink])
            assert sink.received == ["OTHER"]

    run(body())


@pytest.mark.parametrize(
    ("config", "attempt", "text"),
    [
        ("", "sender.send(None)", "Inference Response object must be provided when the response flags is set to zero."),
        ("", "sender.send(said(''), 7)", "Unable to send response. Unsupported flag provided."),
        ("", "sender.send(said('')); sender.send(said(''))", "cannot send more than one response."),
        ("", "sender.send(flags=FINAL)", "cannot send complete final before sending a response."),
        (DECOUPLED, "sender.send(flags=FINAL); sender.send(said(''))", "Response sender has been closed."),
    ],
)
def test_a_sender_refuses_what_does_not_fit(workshop: Workshop, config: str, attempt: str, text: str) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + config) as instance:
            with pytest.raises(BackendError, match=text):
                await execute(instance, attempt)
            sink, _ = await execute(instance, "sender.send(said('fine'), FINAL)")
            assert sink.received == ["fine"]

    run(body())


def test_what_execute_returns_answers_a_request_whose_sender_is_unused(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG) as instance:
            sink, outcome = await execute(instance, "answer = [said('returned')]")
            assert isinstance(outcome, Output)
            assert sink.received == []
            with pytest.raises(BackendError, match="cannot send more than one response"):
                await execute(instance, "sender.send(said('sent'))", "answer = [said('returned')]")

    run(body())


def test_a_decoupled_model_must_return_none(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + DECOUPLED) as instance:
            with pytest.raises(BackendError, match="is using the decoupled mode and the execute function must return"):
                await execute(instance, "answer = []")

    run(body())


@pytest.mark.parametrize("config", ["", DECOUPLED])
def test_a_request_that_the_model_lets_go_of_ends_with_an_error_and_is_logged(
    workshop: Workshop, config: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + config) as instance:
            for request_id, named in (("lost", "request 'lost'"), ("", "a request")):
                sink = Sink()
                result = await instance.execute_into([code("self = sender = None", id=request_id)], [sink])
                assert list(result.outputs) == [Unanswered.OPEN]
                await execute(instance, "sender.send(said('next'), FINAL)")  # the names of the first request are gone
                await sink.final
                assert "without sending the final response" in sink.received[0].message
                text = f"m_0_0: the model let go of {named} without sending the final response to it; "
                await until(lambda text=text: f"{text}it ends with an error" in caplog.messages)

    with caplog.at_level(logging.WARNING, "conch.model.m"):
        run(body())
    assert {(record.name, record.levelname) for record in caplog.records} == {("conch.model.m", "WARNING")}


def test_an_error_after_responses_fails_the_rest_of_the_batch(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + DECOUPLED) as instance:
            sink = Sink()
            with pytest.raises(BackendError, match="ValueError: late"):
                await execute(instance, "sender.send(said('one'))", "raise ValueError('late')", sink=sink)
            assert sink.received == ["one"]

    run(body())


def test_an_async_execute_of_a_decoupled_model_runs_beside_the_next_batches(workshop: Workshop) -> None:
    source = """
import asyncio
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    async def execute(self, requests):
        for request in requests:
            text = request.inputs()[0].as_numpy()[0].decode()
            if text == "fail":
                raise ValueError("failed beside")
            if text == "wait":
                self.woken = asyncio.Event()
                await self.woken.wait()
            else:
                self.woken.set()
            out = pb_utils.Tensor("OUT", np.array([text], dtype=object))
            request.get_response_sender().send(pb_utils.InferenceResponse([out]), 1)
"""

    async def body() -> None:
        async with workshop.instance(source, EVALUATE_CONFIG + DECOUPLED) as instance:
            sinks = {}
            for text in ("wait", "go", "fail"):
                data = Tensor.from_numpy("CODE", np.array([text], dtype=object), DataType.BYTES)
                sinks[text] = Sink()
                await instance.execute_into([InferRequest("m", "1", (data,))], [sinks[text]])
            await asyncio.gather(*(sink.final for sink in sinks.values()))
            assert sinks["wait"].received == ["wait"]
            assert sinks["go"].received == ["go"]
            assert "ValueError: failed beside" in sinks["fail"].received[0].message

    run(body())


def test_a_model_learns_that_its_client_gave_up(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + DECOUPLED) as instance:
            sink = Sink()
            sink.cancelled = True
            both = "sender.send(said(str((request.is_cancelled(), sender.is_cancelled()))), FINAL)"
            await execute(instance, both, sink=sink)
            assert sink.received == ["(True, True)"]
            sink, _ = await execute(instance, both)
            assert sink.received == ["(False, False)"]

    run(body())


def test_whether_the_client_gave_up_may_be_asked_after_the_last_response(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + DECOUPLED) as instance:
            asked = "assert not (request.is_cancelled() or sender.is_cancelled())"
            sink, _ = await execute(instance, "sender.send(said('last'), FINAL)", asked)
            assert sink.received == ["last"]
            await execute(instance, "pb_utils.kept = request, sender", "sender.send(said('last'), FINAL)")
            asked = "assert not any(each.is_cancelled() for each in pb_utils.kept)"
            sink, _ = await execute(instance, asked, "sender.send(said('next'), FINAL)")
            assert sink.received == ["next"]

    run(body())


def test_a_request_is_rescheduled_and_executed_again(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + DECOUPLED) as instance:
            again = "request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)"
            sink, outcome = await execute(instance, "sender.send(said('one'))", again)
            assert outcome is Unanswered.RESCHEDULED
            _, outcome = await execute(instance, "sender.send(said('two'), FINAL)", sink=sink)
            assert outcome is Unanswered.OPEN
            assert sink.received == ["one", "two"]
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG) as instance:
            _, outcome = await execute(instance, again, "answer = [None]")
            assert outcome is Unanswered.RESCHEDULED
            with pytest.raises(BackendError, match="Expected a None object in the execute function return list"):
                await execute(instance, again, "answer = [said('x')]")

    run(body())


def test_open_requests_end_with_an_error_when_the_process_dies(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, EVALUATE_CONFIG + DECOUPLED) as instance:
            deaths: list[ConchError] = []
            instance.on_idle_death(deaths.append)
            sink, _ = await execute(instance, "kept = sender", "sender.send(said('a'))")
            assert instance.pid is not None
            os.kill(instance.pid, signal.SIGKILL)
            await sink.final
            assert sink.received[0] == "a"
            assert isinstance(sink.received[1], InstanceDiedError)
            await until(lambda: deaths)
            await instance.restart()
            sink, _ = await execute(instance, "sender.send(said('back'), FINAL)")
            assert sink.received == ["back"]

    run(body())


def test_without_a_sink_the_list_is_the_only_way_to_answer(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            assert "answered by the list" in await evaluate("request.get_response_sender()")
            assert await evaluate("request.is_cancelled()") == "False"
            assert "handed to `execute`" in await evaluate(
                "pb_utils.InferenceRequest(model_name='x', inputs=[], requested_output_names=[]).get_response_sender()"
            )

    run(body())
