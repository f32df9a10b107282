"""ModelInfer and ModelStreamInfer, through grpcio and tritonclient over a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc as tritongrpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.unit.wire.grpc.conftest import Endpoint, StartEndpoint, open_channel
from tests.unit.wire.grpc.messages import infer_request, random_bytes


def stub(channel: grpc.Channel) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def failure(call: Any, *arguments: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code(), caught.value.details()


def test_response_has_every_field_of_the_answer(channel: grpc.Channel) -> None:
    response = stub(channel).ModelInfer(infer_request(request_id="ü-1"))
    assert response.model_name == "echo"
    assert response.model_version == "1"
    assert response.id == "ü-1"
    assert response.parameters["made_by"].string_param == "fake"
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [("OUT0", "FP32", [1])]
    assert response.raw_output_contents == [b"\0\0\x80\x3f"]


@pytest.mark.parametrize("size", [0, 4, 1020, 1024, 16 << 10, 64 << 10, 1 << 20, 2 << 20, 5_000_004, 64 << 20])
def test_tensors_of_any_size_come_back_unchanged(channel: grpc.Channel, size: int) -> None:
    raw = random_bytes(size)
    response = stub(channel).ModelInfer(infer_request(raw=raw))
    assert response.raw_output_contents[0] == raw


def test_many_inputs_keep_their_order_and_bytes(channel: grpc.Channel) -> None:
    request = pb.ModelInferRequest(model_name="echo")
    for index in range(20):
        request.inputs.add(name=f"IN{index}", datatype="UINT8", shape=[index * 500])
        request.raw_input_contents.append(bytes([index]) * (index * 500))
    response = stub(channel).ModelInfer(request)
    assert [o.name for o in response.outputs] == [f"OUT{index}" for index in range(20)]
    assert [bytes(raw) for raw in response.raw_output_contents] == [bytes([i]) * (i * 500) for i in range(20)]


def test_the_same_head_with_other_ids_and_bytes_is_not_confused(channel: grpc.Channel) -> None:
    for index in range(50):
        raw = np.full(4, index, np.float32).tobytes()
        response = stub(channel).ModelInfer(infer_request(request_id=f"r{index}", raw=raw))
        assert (response.id, response.raw_output_contents[0]) == (f"r{index}", raw)


def test_error_of_a_model_becomes_the_status_it_chose(channel: grpc.Channel) -> None:
    assert failure(stub(channel).ModelInfer, infer_request("fail")) == (grpc.StatusCode.INVALID_ARGUMENT, "boom")


def test_error_raised_at_the_call_becomes_a_status(channel: grpc.Channel) -> None:
    code, text = failure(stub(channel).ModelInfer, infer_request("reject"))
    assert (code, text) == (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'reject' is not found")


def test_a_bug_is_internal_and_tells_no_details(channel: grpc.Channel) -> None:
    code, text = failure(stub(channel).ModelInfer, infer_request("crash"))
    assert code is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in text and "a bug" not in text


def test_garbage_is_an_internal_error_as_in_triton(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    for garbage in (b"\xff\xff\xff", b"\x0a\x7fa", b"\x1a\x01\xff", b"\x0a"):
        assert failure(call, garbage) == (grpc.StatusCode.INTERNAL, "Unable to parse request")


def test_unknown_fields_of_a_newer_protocol_are_ignored(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    message = infer_request(request_id="new").SerializeToString() + b"\xfa\x01\x03abc" + b"\x40\x05"
    response = pb.ModelInferResponse.FromString(call(message))
    assert (response.id, response.raw_output_contents[0]) == ("new", b"\0\0\x80\x3f")


def test_classification_answers_with_the_top_classes(channel: grpc.Channel) -> None:
    request = infer_request(raw=np.array([0, 2, 1], np.float32).tobytes(), shape=(1, 3))
    request.outputs.add(name="OUT0").parameters["classification"].int64_param = 2
    response = stub(channel).ModelInfer(request)
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("BYTES", [1, 2])
    assert response.raw_output_contents[0] == b"\x0e\0\0\x002.000000:1:cat" + b"\x0a\0\0\x001.000000:2"


def test_matching_headers_are_forwarded_as_parameters(start: StartEndpoint) -> None:
    endpoint = start(header_forward_pattern="^My-")
    with open_channel(endpoint) as channel:
        stub(channel).ModelInfer(infer_request(), metadata=[("my-key", "v 1"), ("other", "x"), ("my-bin", b"\0")])
    assert endpoint.server.requests[0].parameters == {"my-key": "v 1"}


def test_cancelled_call_gives_the_request_up(
    endpoint: Endpoint, channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "conch")
    call = stub(channel).ModelInfer.future(infer_request("wait", request_id="a"))
    assert endpoint.server.arrived.acquire(timeout=60)
    call.cancel()
    assert endpoint.server.cancelled.wait(60)
    assert any(text.startswith("Cancellation notification received for ") for text in caplog.messages)


def test_deadline_gives_the_request_up(endpoint: Endpoint, channel: grpc.Channel) -> None:
    for limit_s in (0.2, 2, 20):  # on a busy machine the deadline may pass before the request has arrived
        code, _ = failure(stub(channel).ModelInfer, infer_request("wait"), timeout=limit_s)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        if endpoint.server.arrived.acquire(timeout=limit_s):
            break
    assert endpoint.server.cancelled.wait(60)


def test_closing_the_channel_gives_its_requests_up(endpoint: Endpoint) -> None:
    with open_channel(endpoint) as channel:
        call = stub(channel).ModelInfer.future(infer_request("wait"))
        assert endpoint.server.arrived.acquire(timeout=60)
    assert call.code() is grpc.StatusCode.CANCELLED
    assert endpoint.server.cancelled.wait(60)


def test_message_above_the_limit_is_refused(start: StartEndpoint) -> None:
    with open_channel(start(max_message_bytes=100_000)) as channel:
        for size in (200_000, 4 << 20):
            code, text = failure(stub(channel).ModelInfer, infer_request(raw=bytes(size)))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in text
        assert stub(channel).ModelInfer(infer_request()).model_name == "echo"


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_understood(channel: grpc.Channel, compression: grpc.Compression) -> None:
    raw = bytes(1 << 20)
    response = stub(channel).ModelInfer(infer_request(raw=raw), compression=compression)
    assert response.raw_output_contents[0] == raw


def test_decompression_stops_at_the_limit(start: StartEndpoint) -> None:
    with open_channel(start(max_message_bytes=1 << 20)) as channel:
        request = infer_request(raw=bytes(32 << 20))
        code, _ = failure(stub(channel).ModelInfer, request, compression=grpc.Compression.Gzip)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_responses_are_compressed_when_asked_to(start: StartEndpoint) -> None:
    with open_channel(start(compression="high")) as channel:
        raw = bytes(1 << 20)
        response = stub(channel).ModelInfer(infer_request(raw=raw))
        assert response.raw_output_contents[0] == raw
        plain = stub(channel).ServerLive(pb.ServerLiveRequest())
        assert plain.live


def test_thousands_of_calls_at_once_on_one_connection(endpoint: Endpoint) -> None:
    async def run() -> list[str]:
        async with grpc.aio.insecure_channel(endpoint.address) as channel:
            infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            responses = await asyncio.gather(*(infer(infer_request(request_id=str(i))) for i in range(2000)))
            return [response.id for response in responses]

    assert asyncio.run(run()) == [str(i) for i in range(2000)]


def test_large_answers_share_the_connection_with_small_ones(endpoint: Endpoint) -> None:
    raws = [random_bytes(3 << 20), b"\0\0\x80\x3f"] * 5

    async def run() -> list[bool]:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(endpoint.address, options=options) as channel:
            infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            responses = await asyncio.gather(*(infer(infer_request(raw=raw)) for raw in raws))
            return [response.raw_output_contents[0] == raw for response, raw in zip(responses, raws, strict=True)]

    assert asyncio.run(run()) == [True] * 10


def test_a_client_that_grants_little_still_gets_it_all(endpoint: Endpoint) -> None:
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.max_frame_size", 16384)]
    with open_channel(endpoint, *options) as channel:
        raw = random_bytes(8 << 20)
        assert stub(channel).ModelInfer(infer_request(raw=raw)).raw_output_contents[0] == raw


def test_asyncio_loop_serves_as_well_as_uvloop(start: StartEndpoint) -> None:
    endpoint = start(new_loop=asyncio.new_event_loop)
    with open_channel(endpoint) as channel:
        raw = random_bytes(5 << 20)
        assert stub(channel).ModelInfer(infer_request(raw=raw)).raw_output_contents[0] == raw


def test_tritonclient_infers(endpoint: Endpoint) -> None:
    with tritongrpc.InferenceServerClient(endpoint.address) as client:
        text = np.array([["a", "bc"]], dtype=object)
        tensor = tritongrpc.InferInput("IN0", [1, 2], "BYTES")
        tensor.set_data_from_numpy(text)
        result = client.infer("echo", [tensor], request_id="7", sequence_id=5, sequence_start=True, priority=2)
        assert result.as_numpy("OUT0").tolist() == [[b"a", b"bc"]]
    request = endpoint.server.requests[0]
    assert (request.correlation_id, request.flags, request.priority) == (5, 1, 2)


# Streams


def stream(channel: grpc.Channel, requests: list[Any], **options: Any) -> list[Any]:
    return list(stub(channel).ModelStreamInfer(iter(requests), timeout=30, **options))


def test_stream_answers_every_request_in_order_and_marks_it_final(channel: grpc.Channel) -> None:
    requests = [infer_request(request_id=str(i), raw=np.float32(i).tobytes()) for i in range(300)]
    responses = stream(channel, requests)
    assert [r.infer_response.id for r in responses] == [str(i) for i in range(300)]
    assert all(r.infer_response.parameters["triton_final_response"].bool_param for r in responses)
    assert [bytes(r.infer_response.raw_output_contents[0]) for r in responses] == [
        np.float32(i).tobytes() for i in range(300)
    ]


def test_stream_works_on_requests_concurrently(endpoint: Endpoint, channel: grpc.Channel) -> None:
    responses: list[Any] = []
    requests = [infer_request("wait", request_id=request_id) for request_id in "abc"]
    thread = threading.Thread(target=lambda: responses.extend(stream(channel, requests)))
    thread.start()
    for _ in "abc":
        assert endpoint.server.arrived.acquire(timeout=60)
    for request_id in "cba":
        endpoint.call(endpoint.server.release, request_id)
    thread.join(60)
    assert [r.infer_response.id for r in responses] == ["a", "b", "c"]


def test_stream_goes_on_after_errors(channel: grpc.Channel) -> None:
    bad = infer_request(request_id="bad", raw=None)
    requests = [infer_request("fail", request_id="m"), infer_request("nope", request_id="u", raw=None), bad]
    failed, unknown, undecodable, fine = stream(channel, [*requests, infer_request(request_id="ok")])
    assert failed.error_message == "boom"
    assert (failed.infer_response.id, failed.infer_response.model_name) == ("m", "fail")
    assert failed.infer_response.parameters["triton_final_response"].bool_param
    assert unknown.error_message == "Request for unknown model: 'nope' is not found"
    assert unknown.infer_response.id == "u"
    assert undecodable.error_message == "unable to find data for input tensor 'IN0' for model 'echo' in request."
    assert (fine.error_message, fine.infer_response.id) == ("", "ok")


def test_stream_ends_with_the_status_when_asked_to(channel: grpc.Channel) -> None:
    requests = [infer_request(request_id="ok"), infer_request("fail"), infer_request()]
    call = stub(channel).ModelStreamInfer(iter(requests), metadata=[("triton_grpc_error", "true")])
    assert next(call).infer_response.id == "ok"
    assert failure(next, call) == (grpc.StatusCode.INVALID_ARGUMENT, "boom")


def test_stream_says_within_itself_what_was_not_accepted_even_when_asked_for_the_status(channel: grpc.Channel) -> None:
    requests = [infer_request("reject"), infer_request("nope", raw=None), infer_request(request_id="ok")]
    call = stub(channel).ModelStreamInfer(iter(requests), metadata=[("triton_grpc_error", "true")])
    assert [response.error_message for response in call] == [
        "Request for unknown model: 'reject' is not found",
        "Request for unknown model: 'nope' is not found",
        "",
    ]


def test_stream_of_large_messages_waits_for_a_slow_reader(channel: grpc.Channel) -> None:
    raw = random_bytes(1 << 20)
    call = stub(channel).ModelStreamInfer(iter([infer_request(raw=raw) for _ in range(12)]), timeout=60)
    assert [response.infer_response.raw_output_contents[0] == raw for response in call] == [True] * 12


def test_empty_stream_ends_well(channel: grpc.Channel) -> None:
    assert stream(channel, []) == []


def test_cancelled_stream_gives_its_requests_up(endpoint: Endpoint, channel: grpc.Channel) -> None:
    done = threading.Event()

    def requests() -> Iterator[Any]:
        yield infer_request("wait", request_id="a")
        yield infer_request("wait", request_id="b")
        done.wait(60)

    call = stub(channel).ModelStreamInfer(requests())
    assert endpoint.server.arrived.acquire(timeout=60)
    assert endpoint.server.arrived.acquire(timeout=60)
    call.cancel()
    assert endpoint.server.cancelled.wait(60)
    done.set()


def test_tritonclient_streams(endpoint: Endpoint) -> None:
    results: list[Any] = []
    done = threading.Semaphore(0)

    def collect(result: Any, error: Any) -> None:
        results.append((result, error))
        done.release()

    with tritongrpc.InferenceServerClient(endpoint.address) as client:
        client.start_stream(collect)
        tensor = tritongrpc.InferInput("IN0", [2], "INT32")
        tensor.set_data_from_numpy(np.array([1, 2], np.int32))
        client.async_stream_infer("echo", [tensor], request_id="s", enable_empty_final_response=True)
        assert done.acquire(timeout=60)
        client.stop_stream()
    [(result, error)] = results
    assert error is None
    assert result.as_numpy("OUT0").tolist() == [1, 2]


def test_large_tensors_are_views_into_the_message(endpoint: Endpoint, channel: grpc.Channel) -> None:
    stub(channel).ModelInfer(infer_request(raw=bytes(8 << 20)))
    [request] = endpoint.server.requests
    view = request.inputs[0].data
    assert isinstance(view, memoryview)
    assert (view.readonly, view.format, view.ndim, len(view)) == (True, "B", 1, 8 << 20)


def test_large_messages_lie_in_the_room_that_was_made_for_them(start: StartEndpoint) -> None:
    rooms: list[memoryview] = []

    def allocate(size: int) -> memoryview:
        rooms.append(memoryview(bytearray(size)))
        return rooms[-1]

    endpoint = start(allocate=allocate)
    with grpc.insecure_channel(endpoint.address) as channel:
        for _ in range(2):
            stub(channel).ModelInfer(infer_request(raw=bytes(1 << 20)))
    assert [request.inputs[0].data.obj for request in endpoint.server.requests] == [room.obj for room in rooms]
