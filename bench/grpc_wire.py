"""What the gRPC layer costs alone: an identity server without scheduling, over real sockets.

    python -m bench.grpc_wire serve --port 9001        # for NVIDIA's load generator, from another shell:
    perf_analyzer -m identity -i grpc -u localhost:9001 --concurrency-range 16:32:16 --shape INPUT0:16

    python -m bench.grpc_wire measure --seconds 5      # replays a client's frames; prints CPU us per call

`measure` feeds recorded HTTP/2 bytes into a connection and throws its answers away: the cost of our own code per unary
call (frames, headers, gRPC, codec), free of sockets and clients.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import struct
import sys
import time
from collections.abc import Awaitable
from typing import Any

import uvloop
from hpack import Encoder
from tritonclient.grpc import service_pb2 as pb

from conch.core.api import ModelMetadata, ServerMetadata, TensorMetadata
from conch.errors import NotFoundError
from conch.inference import InferRequest, InferResponse
from conch.tensor import Tensor
from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.connection import Connection
from conch.wire.grpc.options import GrpcOptions
from conch.wire.grpc.server import GrpcServer
from conch.wire.grpc.service import InferenceService

_WINDOW = 2**30


class IdentityServer:
    """Answers every request with its inputs, one turn of the event loop later (as a scheduler would at best)."""

    def is_live(self) -> bool:
        return True

    is_ready = is_live

    def is_model_ready(self, name: str, version: str) -> bool:
        return True

    async def check_model_ready(self, name: str, version: str) -> bool:
        return self.is_model_ready(name, version)

    def metadata(self) -> ServerMetadata:
        return ServerMetadata("identity", "1", ())

    def model_metadata(self, name: str, version: str) -> ModelMetadata:
        tensor = TensorMetadata("INPUT0", "FP32", (-1,))
        return ModelMetadata(name, ("1",), "identity", (tensor,), (TensorMetadata("OUTPUT0", "FP32", (-1,)),))

    def statistics(self, name: str, version: str) -> tuple[()]:
        return ()

    def model(self, name: str, version: str) -> Any:
        """A view with the least configuration perf_analyzer asks for."""
        if name != "identity":
            raise NotFoundError(f"Request for unknown model: '{name}' is not found")
        from types import SimpleNamespace

        from tritonclient.grpc import model_config_pb2

        message = model_config_pb2.ModelConfig(name=name, backend="identity")
        message.input.add(name="INPUT0", data_type=model_config_pb2.TYPE_FP32, dims=[-1])
        message.output.add(name="OUTPUT0", data_type=model_config_pb2.TYPE_FP32, dims=[-1])
        return SimpleNamespace(config=SimpleNamespace(message=message, max_batch_size=0), version=1)

    def infer(self, request: InferRequest) -> Awaitable[InferResponse]:
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        outputs = tuple(Tensor("OUTPUT0", t.datatype, t.shape, t.data) for t in request.inputs)
        future.set_result(InferResponse(request.model_name, "1", request.id, outputs))
        return future


async def serve(port: int) -> None:
    """Serve until interrupted."""
    server = GrpcServer(IdentityServer(), GrpcOptions(host="127.0.0.1", port=port))  # type: ignore[arg-type]
    await server.start()
    print(f"identity model on port {server.port}", flush=True)
    await asyncio.Event().wait()


class _Drain(asyncio.Transport):
    """Counts what is written and forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def write(self, data: Any) -> None:
        self.written += len(data)

    def writelines(self, parts: Any) -> None:
        self.written += sum(map(len, parts))

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to close."""

    abort = close


class _Connections(set[Any]):
    """All open connections: one."""


def request_message(request_id: str) -> bytes:
    """What perf_analyzer sends: FP32[16]."""
    request = pb.ModelInferRequest(model_name="identity", id=request_id)
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[16])
    request.outputs.add(name="OUTPUT0")
    request.raw_input_contents.append(struct.pack("<16f", *range(16)))
    return bytes(request.SerializeToString())


async def measure(seconds: float, batch: int) -> dict[str, float]:
    """CPU microseconds per call with `batch` calls arriving in one read."""
    service = InferenceService(IdentityServer(), GrpcOptions())  # type: ignore[arg-type]
    connection = Connection(service.calls, GrpcOptions().limits, _Connections())
    transport = _Drain()
    connection.connection_made(transport)
    connection.data_received(frames.PREFACE + frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: _WINDOW}))
    connection.data_received(frames.encode_window_update(0, _WINDOW - connection.outbound.window))
    encoder = Encoder()
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/inference.GRPCInferenceService/ModelInfer"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-c++/1.54"),
        ("grpc-accept-encoding", "identity, deflate, gzip"),
        ("te", "trailers"),
    ]
    encoder.encode(headers)
    first = Encoder().encode(headers)
    block = encoder.encode(headers)
    stream_id, calls, spent = 1, 0, 0.0
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        parts = []
        for index in range(batch):
            message = request_message(f"{calls}_{index}")
            body = b"\0" + len(message).to_bytes(4) + message
            head = first if stream_id == 1 else block
            parts.append(frames.encode_header_block(stream_id, head, False, 16384))
            parts.append(frames.encode_frame(frames.DATA, frames.END_STREAM, stream_id, body))
            stream_id += 2
        data = b"".join(parts)
        started = time.thread_time()
        connection.data_received(data)
        while connection.streams:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        spent += time.thread_time() - started
        calls += batch
        connection.data_received(frames.encode_window_update(0, _WINDOW - connection.outbound.window))
    connection.connection_lost(None)
    return {"batch": batch, "calls": calls, "cpu_us_per_call": spent / calls * 1e6}


def main() -> None:
    """Parse arguments and run one of the two."""
    parser = argparse.ArgumentParser(description="The gRPC layer alone.")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve")
    serving.add_argument("--port", type=int, default=9001)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    if arguments.command == "serve":
        uvloop.run(serve(arguments.port))
        return
    results = [uvloop.run(measure(arguments.seconds / 2, batch)) for batch in (1, 16)]
    machine = {"python": sys.version.split()[0], "machine": platform.machine(), "system": platform.system()}
    print(json.dumps({"machine": machine, "results": results}, indent=2))


if __name__ == "__main__":
    main()
