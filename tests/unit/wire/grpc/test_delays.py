"""Calls that are held up on purpose: in which order things happen, with a clock that the tests move."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from conch.wire.grpc.delays import Delays
from tests.unit.wire.grpc.conftest import StartEndpoint, open_channel


class HeldUp:
    """Sleeps until it is told to go on; `begun` tells of every sleep."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.asked: list[float] = []
        self._waiting: list[asyncio.Future[None]] = []

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self.asked.append(seconds)
        self._waiting.append(future)
        self.begun.release()
        await future

    def go_on(self) -> None:
        """To be called on the endpoint's loop."""
        self._waiting.pop(0).set_result(None)

    def wait(self) -> None:
        """Until the next sleep begins."""
        assert self.begun.acquire(timeout=60)


@pytest.fixture
def held_up() -> HeldUp:
    return HeldUp()


def infer_request(model: str) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, id="a")
    request.inputs.add(name="IN0", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(bytes(4))
    return request


def test_inference_begins_after_its_delay(start: StartEndpoint, held_up: HeldUp) -> None:
    endpoint = start(delays=Delays(process_s=5, sleep=held_up.sleep))
    with open_channel(endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer.future(infer_request("echo"))
        held_up.wait()
        assert endpoint.server.requests == []
        endpoint.call(held_up.go_on)
        assert call.result(30).id == "a"
    assert held_up.asked == [5]


def test_a_request_given_up_before_its_inference_begins_is_never_begun(start: StartEndpoint, held_up: HeldUp) -> None:
    endpoint = start(delays=Delays(process_s=5, sleep=held_up.sleep))
    with open_channel(endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer.future(infer_request("echo"))
        held_up.wait()
        assert call.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            call.result(30)
        endpoint.do(endpoint.grpc._service.calls.unwind())
    assert endpoint.server.requests == []


def test_a_request_given_up_while_it_is_executed_is_cancelled(start: StartEndpoint, held_up: HeldUp) -> None:
    endpoint = start(delays=Delays(process_s=5, sleep=held_up.sleep))
    with open_channel(endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer.future(infer_request("wait"))
        held_up.wait()
        endpoint.call(held_up.go_on)
        assert endpoint.server.arrived.acquire(timeout=60)
        call.cancel()
        assert endpoint.server.cancelled.wait(60)


def test_errors_of_delayed_calls_keep_their_codes(start: StartEndpoint, held_up: HeldUp) -> None:
    endpoint = start(delays=Delays(process_s=5, other_s=2, sleep=held_up.sleep))
    with open_channel(endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        requests = (
            (stub.ModelInfer, infer_request("none")),
            (stub.ModelMetadata, pb.ModelMetadataRequest(name="none")),
        )
        for method, request in requests:
            call = method.future(request)
            held_up.wait()
            endpoint.call(held_up.go_on)
            with pytest.raises(grpc.RpcError) as caught:
                call.result(30)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert held_up.asked == [5, 2]


def test_other_calls_are_answered_after_theirs(start: StartEndpoint, held_up: HeldUp) -> None:
    endpoint = start(delays=Delays(other_s=2, sleep=held_up.sleep))
    with open_channel(endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        load = stub.RepositoryModelLoad.future(pb.RepositoryModelLoadRequest(model_name="echo"))
        held_up.wait()
        assert endpoint.server.loads == [("echo", None, {})]
        assert not load.done()
        endpoint.call(held_up.go_on)
        load.result(30)
        assert stub.ModelInfer(infer_request("echo"), timeout=60).id == "a"
    assert held_up.asked == [2]


@pytest.mark.parametrize(("model", "told"), [("echo", ""), ("fail", "boom")])
def test_an_answer_on_a_stream_is_told_after_its_delay(
    start: StartEndpoint, held_up: HeldUp, model: str, told: str
) -> None:
    endpoint = start(delays=Delays(complete_s=3, sleep=held_up.sleep))
    with open_channel(endpoint) as channel:
        answers = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([infer_request(model)]))
        held_up.wait()
        assert [request.model_name for request in endpoint.server.requests] == [model]
        endpoint.call(held_up.go_on)
        assert [answer.error_message for answer in answers] == [told]
    assert held_up.asked == [3]


def test_what_is_refused_on_a_stream_is_told_at_once(start: StartEndpoint, held_up: HeldUp) -> None:
    endpoint = start(delays=Delays(complete_s=3, sleep=held_up.sleep))
    with open_channel(endpoint) as channel:
        answers = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([infer_request("none")]))
        assert "unknown model" in next(iter(answers)).error_message
    assert held_up.asked == []


def test_both_delays_of_a_decoupled_response_add_up(held_up: HeldUp) -> None:
    async def run() -> None:
        waiting = asyncio.ensure_future(Delays(response_s=1, complete_s=3, sleep=held_up.sleep).before_response())
        await asyncio.sleep(0)
        held_up.go_on()
        await waiting

    asyncio.run(run())
    assert held_up.asked == [4]
