"""A gRPC endpoint in a thread of its own, in front of a server that echoes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

import grpc
import pytest
import uvloop
from tritonclient.grpc import model_config_pb2

from conch.core.api import (
    BatchStat,
    DurationStat,
    LogSettings,
    ModelIndexEntry,
    ModelMetadata,
    ModelStatistics,
    ResponseStat,
    ServerMetadata,
    TensorMetadata,
)
from conch.core.tracing import Tracing
from conch.errors import BackendError, Code, NotFoundError, UnsupportedError
from conch.inference import InferRequest, InferResponse
from conch.tensor import DataType, Tensor
from conch.wire.api_keys import ApiKeys
from conch.wire.grpc.options import GrpcOptions
from conch.wire.grpc.server import GrpcServer
from conch.wire.shared_memory import SharedMemoryRegions

T = TypeVar("T")


class FakeServer:
    """Answers `echo` with its inputs; `fail` with a model's error; `wait` when released; `reject` at the call;
    `large` with as many zeros as its input says."""

    def __init__(self) -> None:
        self.ready = True
        self.tracing = Tracing()
        self.requests: list[InferRequest] = []
        self.loads: list[tuple[str, str | None, Mapping[str, bytes]]] = []
        self.unloads: list[tuple[str, bool]] = []
        self.log_changes: list[Mapping[str, bool | int | str]] = []
        self.waiting: dict[str, asyncio.Future[InferResponse]] = {}
        self.cancelled = threading.Event()
        self.arrived = threading.Semaphore(0)

    def is_live(self) -> bool:
        return True

    def is_ready(self) -> bool:
        return self.ready

    def is_model_ready(self, name: str, version: str) -> bool:
        return name == "echo" and version in ("", "1")

    async def check_model_ready(self, name: str, version: str) -> bool:
        return self.is_model_ready(name, version)

    def metadata(self) -> ServerMetadata:
        return ServerMetadata("conch", "0.1", ("classification", "sequence"))

    def model(self, name: str, version: str) -> Any:
        if name not in ("echo", "fail", "wait", "crash", "large"):
            raise NotFoundError(f"Request for unknown model: '{name}' is not found")
        message = model_config_pb2.ModelConfig(name=name, backend="python", max_batch_size=8)
        inputs = (SimpleNamespace(name="IN0", data_type=DataType.FP32),)
        config = SimpleNamespace(message=message, max_batch_size=8, input=inputs, decoupled=False)
        return SimpleNamespace(config=config, version=1, label=lambda output, index: "cat" if index == 1 else "")

    def model_metadata(self, name: str, version: str) -> ModelMetadata:
        self.model(name, version)
        inputs = (TensorMetadata("IN0", "FP32", (-1, 16)),)
        return ModelMetadata(name, ("1",), "python", inputs, (TensorMetadata("OUT0", "FP32", (-1, 16)),))

    def statistics(self, name: str, version: str) -> Sequence[ModelStatistics]:
        some = DurationStat(3, 1000)
        batch = BatchStat(2, some, some, some)
        response = ResponseStat(some, some, some, some, some, DurationStat(1, 5))
        return [ModelStatistics("echo", "1", 7, 5, 3, {"success": some, "queue": some}, (batch,), {"0": response})]

    def infer(self, request: InferRequest) -> Awaitable[InferResponse]:
        self.requests.append(request)
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        if request.model_name == "reject":
            raise NotFoundError("Request for unknown model: 'reject' is not found")
        if request.model_name == "fail":
            future.set_exception(BackendError("boom", Code.INVALID_ARG))
        elif request.model_name == "crash":
            future.set_exception(ZeroDivisionError("a bug"))
        elif request.model_name == "wait":
            future.add_done_callback(lambda done: self.cancelled.set() if done.cancelled() else None)
            self.waiting[request.id] = future
            self.arrived.release()
        elif request.model_name == "large":
            zeros = bytes(int.from_bytes(request.inputs[0].data, "little"))
            outputs = (Tensor("OUT0", DataType.UINT8, (len(zeros),), zeros),)
            future.set_result(InferResponse("large", "1", request.id, outputs))
        else:
            future.set_result(self.response(request))
        return future

    @staticmethod
    def response(request: InferRequest) -> InferResponse:
        outputs = tuple(
            Tensor(tensor.name.replace("IN", "OUT"), tensor.datatype, tensor.shape, tensor.data)
            for tensor in request.inputs
        )
        return InferResponse(request.model_name, "1", request.id, outputs, {"made_by": "fake"})

    def release(self, request_id: str) -> None:
        """Answer the request with that id to `wait`. To be called on the loop."""
        request = next(request for request in self.requests if request.id == request_id)
        self.waiting[request_id].set_result(self.response(request))

    async def load_model(self, name: str, config: str | None, files: Mapping[str, bytes]) -> None:
        self.loads.append((name, config, files))
        if name == "nope":
            raise NotFoundError("failed to load 'nope', failed to poll from model repository")

    async def unload_model(self, name: str, unload_dependents: bool) -> None:
        self.unloads.append((name, unload_dependents))

    def repository_index(self, ready: bool) -> Sequence[ModelIndexEntry]:
        entries = [ModelIndexEntry("echo", "1", "READY")]
        return entries if ready else [*entries, ModelIndexEntry("other")]

    def log_settings(self) -> LogSettings:
        return LogSettings("", True, True, True, 0, "default")

    def update_log_settings(self, changes: Mapping[str, bool | int | str]) -> LogSettings:
        if "log_file" in changes:
            raise UnsupportedError("log file location can not be updated through network protocol")
        self.log_changes.append(changes)
        return LogSettings("", True, True, True, 2, "default")


class Endpoint:
    """A GrpcServer on a free port, its event loop in a thread."""

    def __init__(
        self,
        options: GrpcOptions,
        new_loop: Callable[[], asyncio.AbstractEventLoop],
        keys: ApiKeys | None = None,
        regions: SharedMemoryRegions | None = None,
    ) -> None:
        self.server = FakeServer()
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc endpoint")
        self._thread.start()
        self.grpc = GrpcServer(self.server, options, regions, keys)
        self.do(self.grpc.start())
        self.port = self.grpc.port
        self.address = f"localhost:{self.port}" if options.tls else f"127.0.0.1:{self.port}"

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine, run on the endpoint's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """The result of a function, called on the endpoint's loop."""

        async def run() -> T:
            return function(*arguments)

        return self.do(run())

    def unfinished(self) -> int:
        """Tasks left on the loop beside the one that asks."""
        return self.call(lambda: len(asyncio.all_tasks()) - 1)

    def close(self) -> None:
        """Stop everything; nothing may be left on the loop."""
        try:
            self.do(self.grpc.close())
            assert self.unfinished() == 0, "tasks are left on the endpoint's loop"
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(30)
            self._loop.close()


StartEndpoint = Callable[..., Endpoint]


@pytest.fixture
def start() -> Iterator[StartEndpoint]:
    """Starts endpoints: `start(max_message_bytes=...)` takes fields of GrpcOptions, `keys`, `regions`, `new_loop`."""
    endpoints: list[Endpoint] = []

    def start(
        new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
        keys: ApiKeys | None = None,
        regions: SharedMemoryRegions | None = None,
        **options: Any,
    ) -> Endpoint:
        endpoint = Endpoint(GrpcOptions(host="127.0.0.1", port=0, **options), new_loop, keys, regions)
        endpoints.append(endpoint)
        return endpoint

    yield start
    for endpoint in endpoints:
        endpoint.close()


@pytest.fixture
def endpoint(start: StartEndpoint) -> Endpoint:
    """An endpoint with default options."""
    return start()


@pytest.fixture
def channel(endpoint: Endpoint) -> Iterator[grpc.Channel]:
    """A channel of grpcio to `endpoint`, without limits on message sizes."""
    with open_channel(endpoint) as channel:
        yield channel


def open_channel(endpoint: Endpoint, *options: tuple[str, Any]) -> grpc.Channel:
    """A channel of its own connection, to be closed by the caller."""
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    own = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(endpoint.address, options=[*unlimited, *own, *options])
