"""Functions as models, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

import conch
from conch.errors import ConchError, InvalidArgumentError, NotFoundError, UnavailableError

VECTOR = conch.Tensor(np.float32, (-1,))


def serve(**options: Any) -> conch.Serve:
    return conch.Serve(http_address="127.0.0.1", grpc_address="127.0.0.1", http_port=0, grpc_port=0, metrics_port=0,
                       **options)  # fmt: skip


def http_infer(server: conch.Serve, model: str, **arrays: np.ndarray) -> Any:
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.http_port}")
    try:
        inputs = []
        for name, array in arrays.items():
            datatype = "BYTES" if array.dtype.kind == "O" else "FP32"
            inputs.append(tritonclient.http.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array))
        return client.infer(model, inputs)
    finally:
        client.close()


@conch.batch
def add(a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    return {"sum": a + b}


ADD_INPUTS = [conch.Tensor(np.float32, (-1,), "a"), conch.Tensor(np.float32, (-1,), "b")]
ADD_OUTPUTS = [conch.Tensor(np.float32, (-1,), "sum")]


def test_a_function_answers_over_http_and_grpc() -> None:
    ones = np.ones((2, 3), np.float32)
    with serve() as server:
        server.bind("add", add, ADD_INPUTS, ADD_OUTPUTS)
        np.testing.assert_array_equal(http_infer(server, "add", a=ones, b=ones).as_numpy("sum"), ones + ones)
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            inputs = [tritonclient.grpc.InferInput(name, [2, 3], "FP32").set_data_from_numpy(ones) for name in "ab"]
            np.testing.assert_array_equal(client.infer("add", inputs).as_numpy("sum"), ones + ones)


def test_functions_bound_before_the_start_are_served_from_the_start_on() -> None:
    server = serve()
    server.bind("plain", lambda requests: [[request["INPUT_1"]] for request in requests], [VECTOR], [VECTOR])
    with server:
        answer = http_infer(server, "plain", INPUT_1=np.ones((1, 2), np.float32))
        assert answer.as_numpy("OUTPUT_1").tolist() == [[1, 1]]


def test_texts_and_models_without_a_batch_dimension() -> None:
    def shout(requests: Sequence[conch.Request]) -> list[dict[str, np.ndarray]]:
        return [
            {"loud": np.array([text.decode().upper() for text in request["text"]], dtype=object)}
            for request in requests
        ]

    with serve() as server:
        text = conch.Tensor(bytes, (-1,), "text")
        loud = conch.Tensor(bytes, (-1,), "loud")
        server.bind("shout", shout, [text], [loud], conch.ModelConfig(batching=False))
        answer = http_infer(server, "shout", text=np.array([b"hey", b"you"], dtype=object))
        assert answer.as_numpy("loud").tolist() == [b"HEY", b"YOU"]


def test_requests_are_batched_as_the_configuration_says() -> None:
    rows: Queue[int] = Queue()

    @conch.batch
    def count(INPUT_1: np.ndarray) -> list[np.ndarray]:
        rows.put(len(INPUT_1))
        return [INPUT_1]

    config = conch.ModelConfig(max_batch_size=4, batcher=conch.DynamicBatcher(100_000_000, preferred_batch_size=[4]))
    with serve() as server:
        server.bind("count", count, [VECTOR], [VECTOR], config)
        one = np.ones((1, 2), np.float32)
        threads = [threading.Thread(target=http_infer, args=(server, "count"), kwargs={"INPUT_1": one}) for _ in "1234"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [rows.get(timeout=60)] == [4]
        assert rows.empty()


def test_several_functions_run_in_parallel() -> None:
    meeting = threading.Barrier(2, timeout=60)

    def meet(requests: Sequence[conch.Request]) -> list[list[np.ndarray]]:
        meeting.wait()
        return [[request["INPUT_1"]] for request in requests]

    with serve() as server:
        server.bind("meet", [meet, meet], [VECTOR], [VECTOR], conch.ModelConfig(batching=False))
        one = np.ones(1, np.float32)
        other = threading.Thread(target=http_infer, args=(server, "meet"), kwargs={"INPUT_1": one})
        other.start()
        assert http_infer(server, "meet", INPUT_1=one).as_numpy("OUTPUT_1").tolist() == [1]
        other.join()


def test_a_generator_streams_its_answers() -> None:
    def count_down(requests: Sequence[conch.Request]) -> Iterator[list[dict[str, np.ndarray]]]:
        for number in (3, 2, 1):
            yield [{"OUTPUT_1": np.full(1, number, np.float32)} for _ in requests]

    with serve() as server:
        config = conch.ModelConfig(batching=False, decoupled=True)
        server.bind("count_down", count_down, [VECTOR], [VECTOR], config)
        answers: Queue[Any] = Queue()
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            client.start_stream(lambda result, error: answers.put(error or result.as_numpy("OUTPUT_1").tolist()))
            array = tritonclient.grpc.InferInput("INPUT_1", [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))
            client.async_stream_infer("count_down", [array])
            received = [answers.get(timeout=60) for _ in range(3)]
            client.stop_stream()
        assert received == [[3], [2], [1]]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda requests: 1 / 0, "function of model 'broken' failed: ZeroDivisionError: division by zero"),
        (lambda requests: requests[0], "must return a list with one answer for each of 1 requests, got Request"),
        (lambda requests: [None], "must answer with a mapping or with 1 arrays"),
        (lambda requests: [{"nope": 1}], r"answered \['nope'\], its outputs are \['OUTPUT_1'\]"),
        (lambda requests: [[np.ones(1)]], r"output 'OUTPUT_1' must be FP32 \(dtype float32\), got float64"),
        (lambda requests: [[np.ones((2, 1), np.float32)]], r"must have 1 rows as its request has, got shape \[2, 1\]"),
        (lambda requests: [NotFoundError("no such word")], "no such word"),
    ],
)
def test_a_function_that_misbehaves_fails_its_request(function: Any, text: str) -> None:
    with serve() as server:
        server.bind("broken", function, [VECTOR], [VECTOR])
        with pytest.raises(InferenceServerException, match=text):
            http_infer(server, "broken", INPUT_1=np.ones((1, 2), np.float32))
        server.bind("add", add, ADD_INPUTS, ADD_OUTPUTS)
        one = np.ones((1, 1), np.float32)
        assert http_infer(server, "add", a=one, b=one).as_numpy("sum").tolist() == [[2]]


def test_a_function_whose_tensors_make_no_model_is_refused_and_may_be_bound_again() -> None:
    with serve() as server:
        with pytest.raises(ConchError, match="model input 'a' dimension must be"):
            server.bind("add", add, [conch.Tensor(np.float32, (-2,), "a")], ADD_OUTPUTS)
        server.bind("add", add, ADD_INPUTS, ADD_OUTPUTS)
        with pytest.raises(InvalidArgumentError, match="model 'add' is bound already"):
            server.bind("add", add, ADD_INPUTS, ADD_OUTPUTS)
        with pytest.raises(InvalidArgumentError, match="at least one function"):
            server.bind("none", [], ADD_INPUTS, ADD_OUTPUTS)


def test_functions_are_served_inside_a_running_event_loop() -> None:
    """As in a notebook: its loop runs already, and goes on while the cell waits."""

    async def cell() -> np.ndarray:
        ones = np.ones((1, 3), np.float32)
        with serve() as server:
            server.bind("add", [add, add], ADD_INPUTS, ADD_OUTPUTS)
            answer = await asyncio.to_thread(http_infer, server, "add", a=ones, b=ones)
            again = http_infer(server, "add", a=ones, b=ones)
            np.testing.assert_array_equal(answer.as_numpy("sum"), again.as_numpy("sum"))
            found: np.ndarray = answer.as_numpy("sum")
            return found

    assert asyncio.run(cell()).tolist() == [[2, 2, 2]]


def test_a_taken_port_is_told_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with serve() as server:
        other = conch.Serve(http_address="127.0.0.1", http_port=server.http_port, allow_grpc=False, allow_metrics=False)
        with pytest.raises(ConchError, match=str(server.http_port)):
            other.run()
    assert before.issuperset(threading.enumerate())


def test_serve_blocks_until_it_is_stopped() -> None:
    server = serve()
    serving = threading.Thread(target=server.serve)
    serving.start()
    deadline = time.monotonic() + 60
    while server._running is None and time.monotonic() < deadline:
        serving.join(0.01)
    server.stop()
    serving.join(60)
    assert not serving.is_alive()
    with pytest.raises(UnavailableError, match="does not run"):
        _ = server.http_port
