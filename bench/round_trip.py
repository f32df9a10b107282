"""What a lone request cannot go below: its round trip through conch and Triton, beside a bare relay of the same bytes.

    TRITON='tritonserver --model-repository={repository} --http-port={http} --grpc-port={grpc} \\
        --metrics-port={metrics}' python -m bench.round_trip [--rounds 5] [--json FILE]

One client with one connection sends the same HTTP request for an identity model again and again. The relay is two
processes that read nothing of it: one takes the request from the client and passes it to the other, which sends an
answer of the same size back the same way. That is what remains of any server whose models run in processes of their
own: four wake-ups and eight system calls.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tritonclient.http as triton

from bench.alternating import alternate
from bench.processes import Server
from conch.testing import ModelRepositoryBuilder

_REQUESTS = 3000
_ANSWER_BYTES = 356


def write(repository: Path) -> None:
    """The identity model."""
    ModelRepositoryBuilder(repository).add_identity("identity", dims="[ 16 ]", max_batch_size=64)


def request_bytes() -> bytes:
    """One request as tritonclient would send it."""
    tensor = triton.InferInput("INPUT0", [1, 16], "FP32")
    tensor.set_data_from_numpy(np.arange(16, dtype=np.float32).reshape(1, 16))
    body, head_bytes = triton.InferenceServerClient.generate_request_body([tensor])
    lines = ["POST /v2/models/identity/infer HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines.append(f"Inference-Header-Content-Length: {head_bytes}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + bytes(body)


def median_us(port: int) -> float:
    """The median round trip."""
    request = request_bytes()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = []
        for _ in range(_REQUESTS):
            begun = time.perf_counter()
            connection.sendall(request)
            answer = connection.recv(1 << 16)
            trips.append(time.perf_counter() - begun)
            if not answer:
                raise RuntimeError("the server closed the connection")
    return statistics.median(trips[_REQUESTS // 10 :]) * 1e6


def _pass_on(listener: socket.socket, worker: socket.socket) -> None:
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := client.recv(1 << 16):
        worker.sendall(data)
        client.sendall(worker.recv(1 << 16))


def _answer(server: socket.socket) -> None:
    while server.recv(1 << 16):
        server.sendall(bytes(_ANSWER_BYTES))


@contextlib.contextmanager
def relay() -> Iterator[int]:
    """The port of two processes that pass a request on and an answer back."""
    listener = socket.create_server(("127.0.0.1", 0))
    near, far = socket.socketpair()
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_pass_on, args=(listener, near), daemon=True),
        context.Process(target=_answer, args=(far,), daemon=True),
    ]
    for process in processes:
        process.start()
    try:
        yield listener.getsockname()[1]
    finally:
        for process in processes:
            process.terminate()
            process.join()
        for each in (listener, near, far):
            each.close()


def measure(server: Server) -> dict[str, float]:
    """Median round trips in microseconds; the relay is measured in the same minute."""
    median_us(server.http)
    trips = {"a request over HTTP": median_us(server.http)}
    with relay() as port:
        trips["the bare relay beside it"] = median_us(port)
    return trips


if __name__ == "__main__":
    sys.exit(alternate("us", write, measure))
