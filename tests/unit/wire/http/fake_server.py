"""A server for wire tests: it knows a few models and answers inference with its inputs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from conch.config.schema import InstanceGroup, ModelConfig, ModelInput, ModelOutput, VersionPolicy
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
from conch.core.metrics import CustomMetrics
from conch.core.queue import RequestFuture
from conch.core.tensor_bytes import check_tensor_bytes
from conch.core.tracing import Tracing
from conch.errors import AlreadyExistsError, ConchError, InvalidArgumentError, NotFoundError, UnsupportedError
from conch.inference import InferRequest, InferResponse
from conch.tensor import DataType, Tensor
from conch.tensor.datatype import DATATYPE_BY_CONFIG_NAME


def model_config(text: str) -> ModelConfig:
    """A configuration from protobuf text, without any checks."""
    message = text_format.Parse(text, pb.ModelConfig())
    return ModelConfig(
        message=message,
        name=message.name,
        platform=message.platform,
        backend=message.backend,
        max_batch_size=message.max_batch_size,
        input=tuple(ModelInput(i.name, _datatype(i.data_type), tuple(i.dims)) for i in message.input),
        output=tuple(ModelOutput(o.name, _datatype(o.data_type), tuple(o.dims)) for o in message.output),
        version_policy=VersionPolicy(latest=1),
        instance_group=(InstanceGroup("g", "CPU", 1),),
        dynamic_batching=None,
        default_model_filename="model.py",
        parameters={},
        decoupled=message.model_transaction_policy.decoupled,
    )


def _datatype(value: int) -> DataType:
    return DATATYPE_BY_CONFIG_NAME[pb.DataType.Name(value)]


def _identity(name: str, datatype: str, dims: str, max_batch_size: int = 0, extra: str = "") -> ModelConfig:
    return model_config(
        f'name: "{name}" backend: "python" max_batch_size: {max_batch_size} {extra}'
        f'input {{ name: "INPUT0" data_type: TYPE_{datatype} dims: {dims} }}'
        f'output {{ name: "OUTPUT0" data_type: TYPE_{datatype} dims: {dims} }}'
    )


class FakeModel:
    """A ready model version."""

    def __init__(self, config: ModelConfig, version: int = 1, labels: Sequence[str] = ()) -> None:
        self.config = config
        self.version = version
        self._labels = labels

    def label(self, output: str, index: int) -> str:
        return self._labels[index] if output == "OUTPUT0" and index < len(self._labels) else ""


class FakeServer:
    """Answers each request with its inputs under the names OUTPUT0, OUTPUT1, ...

    Attributes:
        requests: every inference request, in the order they came.
        hold: while set, requests are not answered until it is released by `release`.
        failure: raised by every inference instead of an answer.
        custom_metrics: what models report of themselves.
        cancelled: how many requests clients gave up.
        index: the repository index.
        answer_with: outputs to answer with instead of the inputs.
    """

    def __init__(self) -> None:
        self.models = {
            config.name: FakeModel(config, labels=("zero", "one"))
            for config in (
                *(_identity(f"id_{t.value}", t.config_name.removeprefix("TYPE_"), "[-1]") for t in DataType),
                _identity("batched", "FP32", "[-1]", 8),
                _identity("two_variable", "FP32", "[-1, -1]"),
                _identity("one_string", "STRING", "[1]"),
                _identity("decoupled", "FP32", "[-1]", 0, "model_transaction_policy { decoupled: true }"),
                model_config(
                    'name: "simple" backend: "python" max_batch_size: 8 '
                    'input { name: "INPUT0" data_type: TYPE_INT32 dims: [16] }'
                    'input { name: "INPUT1" data_type: TYPE_INT32 dims: [16] }'
                    'output { name: "OUTPUT0" data_type: TYPE_INT32 dims: [16] }'
                    'output { name: "OUTPUT1" data_type: TYPE_INT32 dims: [16] }'
                ),
            )
        }
        self.tracing = Tracing()
        self.custom_metrics = CustomMetrics()
        self.requests: list[InferRequest] = []
        self.hold = False
        self.failure: Exception | None = None
        self.cancelled = 0
        self.answer_with: tuple[Tensor, ...] | None = None
        self.calls: list[tuple[object, ...]] = []
        self.repositories: set[str] = set()
        self.is_server_ready = True
        self.index = [
            ModelIndexEntry("a", "1", "READY"),
            ModelIndexEntry("b", "1", "UNAVAILABLE", "unloaded"),
            ModelIndexEntry("never_loaded"),
        ]
        self._held: list[tuple[RequestFuture, InferRequest]] = []
        self._log = LogSettings("", True, True, True, 0, "default")

    @property
    def held(self) -> int:
        return len(self._held)

    def release(self) -> None:
        for future, request in self._held:
            if not future.done():
                future.set_result(self._answer(request))
                _tell(future)
        self._held.clear()

    def emit(self, outcome: InferResponse | ConchError) -> None:
        """A response before the last one, of a decoupled model, to the request that was held last."""
        on_response = self._held[-1][0].on_response
        assert on_response is not None
        on_response(outcome)

    def end(self, outcome: InferResponse | Exception) -> None:
        """The last response to the request that was held last."""
        future, _ = self._held.pop()
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        _tell(future)

    def is_live(self) -> bool:
        return True

    def is_ready(self) -> bool:
        return self.is_server_ready

    def is_model_ready(self, name: str, version: str) -> bool:
        return name in self.models and version in ("", "1")

    async def check_model_ready(self, name: str, version: str) -> bool:
        return self.is_model_ready(name, version)

    def metadata(self) -> ServerMetadata:
        return ServerMetadata("triton", "2.51.0", ("classification", "statistics"))

    def model(self, name: str, version: str) -> FakeModel:
        if name not in self.models:
            raise NotFoundError(f"Request for unknown model: '{name}' is not found")
        if version not in ("", "1"):
            raise NotFoundError(f"Request for unknown model: '{name}' version {version} is not found")
        return self.models[name]

    def model_metadata(self, name: str, version: str) -> ModelMetadata:
        config = self.model(name, version).config
        first = (-1,) if config.max_batch_size else ()
        return ModelMetadata(
            name,
            ("1",),
            "python",
            tuple(TensorMetadata(i.name, i.data_type.value, first + i.dims) for i in config.input),
            tuple(TensorMetadata(o.name, o.data_type.value, first + o.dims) for o in config.output),
        )

    def statistics(self, name: str, version: str) -> Sequence[ModelStatistics]:
        if name and name not in self.models:
            raise InvalidArgumentError(f"requested model '{name}' is not available")
        zero = DurationStat(0, 0)
        keys = (
            "success",
            "fail",
            "queue",
            "compute_input",
            "compute_infer",
            "compute_output",
            "cache_hit",
            "cache_miss",
        )
        batches = (BatchStat(2, DurationStat(1, 10), DurationStat(1, 20), DurationStat(1, 30)),)
        response = ResponseStat(DurationStat(2, 5), DurationStat(2, 6), DurationStat(1, 7), zero, zero, zero)
        return [
            ModelStatistics(model, "1", 5, 2, 1, dict.fromkeys(keys, zero), batches, {"0": response})
            for model in ([name] if name else self.models)
        ]

    def infer(self, request: InferRequest) -> Awaitable[InferResponse]:
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        for tensor in request.inputs:  # as the core does
            check_tensor_bytes(tensor, request.model_name, request.id)
        future = RequestFuture(loop=asyncio.get_running_loop())
        future.on_cancel = lambda: None
        if self.hold:
            self._held.append((future, request))
            future.add_done_callback(self._count_cancelled)
        else:
            future.set_result(self._answer(request))
        return future

    async def load_model(self, name: str, config: str | None, files: Mapping[str, bytes]) -> None:
        self.calls.append(("load", name, config, dict(files)))
        if name not in self.models:
            raise ConchError(f"failed to load '{name}', failed to poll from model repository")

    async def unload_model(self, name: str, unload_dependents: bool) -> None:
        self.calls.append(("unload", name, unload_dependents))

    async def register_repository(self, location: str, names: Mapping[str, str]) -> None:
        self.calls.append(("register", location, dict(names)))
        if location in self.repositories:
            raise AlreadyExistsError(f"model repository '{location}' has already been registered")
        self.repositories.add(location)

    async def unregister_repository(self, location: str) -> None:
        self.calls.append(("unregister", location))
        self.repositories.remove(location)

    def repository_index(self, ready: bool) -> Sequence[ModelIndexEntry]:
        return [entry for entry in self.index if entry.state == "READY" or not ready]

    def log_settings(self) -> LogSettings:
        return self._log

    def update_log_settings(self, changes: Mapping[str, bool | int | str]) -> LogSettings:
        self.calls.append(("log", dict(changes)))
        if "log_file" in changes:
            raise UnsupportedError("log file location can not be updated through network protocol")
        return self._log

    def _count_cancelled(self, future: asyncio.Future[InferResponse]) -> None:
        self.cancelled += future.cancelled()

    def _answer(self, request: InferRequest) -> InferResponse:
        outputs = self.answer_with
        if outputs is None:
            outputs = tuple(
                Tensor(f"OUTPUT{index}", t.datatype, t.shape, t.data) for index, t in enumerate(request.inputs)
            )
        return InferResponse(request.model_name, "1", request.id, outputs)


def _tell(future: RequestFuture) -> None:
    """Tell the wire that a request is settled, as schedulers do."""
    if future.on_settled is not None:
        future.on_settled(future)
