"""A stand-in for the server: loads a model directory in this process and runs its model.py.

It gives models the part of `triton_python_backend_utils` that they use, and batches as a dynamic batcher does: what is
asked in one turn of the event loop is executed together.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as pb

from conch.errors import BackendError, Code
from conch.tensor.datatype import DATATYPE_BY_CONFIG_NAME


class TritonError(Exception):
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        super().__init__(message)
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"a tensor is made of an array, got {type(array)}")
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class InferenceResponse:
    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None) -> None:
        self._tensors, self._error = list(output_tensors), error

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


class Request:
    """What a model receives.

    Attributes:
        cancelled: tells whether its client gave it up; may be replaced.
        sender: what a decoupled model sends its responses to.
    """

    def __init__(self, inputs: dict[str, np.ndarray], parameters: dict[str, Any], outputs: Sequence[str]) -> None:
        self._tensors = [Tensor(name, array) for name, array in inputs.items()]
        self._parameters, self._outputs = json.dumps(parameters), list(outputs)
        self.cancelled: Callable[[], bool] = lambda: False
        self.sender = Sender(self)

    def is_cancelled(self) -> bool:
        return self.cancelled()

    def get_response_sender(self) -> Sender:
        return self.sender

    def inputs(self) -> list[Tensor]:
        return self._tensors

    def parameters(self) -> str:
        return self._parameters

    def requested_output_names(self) -> list[str]:
        return self._outputs


class Sender:
    """Keeps the responses of a decoupled model.

    Attributes:
        sent: the responses.
        finished: the model said that there will be no more.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self.sent: list[InferenceResponse] = []
        self.finished = False

    def is_cancelled(self) -> bool:
        return self._request.is_cancelled()

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        assert not self.finished
        self.finished = flags == FINAL
        if response is not None:
            self.sent.append(response)


#: The flag of a last response.
FINAL = 1

#: Model name -> what answers the requests that models send to it: tensors -> tensors.
NETWORKS: dict[str, Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]] = {}

#: The names of those that are not ready before a model loads them.
NOT_READY: set[str] = set()


class PreferredMemory:
    def __init__(self, preferred_memory_type: int, preferred_device_id: int = 0) -> None:
        self.preferred_memory_type, self.preferred_device_id = preferred_memory_type, preferred_device_id


class InferenceRequest:
    """A request of a model to another one, of those in `NETWORKS`."""

    def __init__(
        self,
        model_name: str,
        requested_output_names: Sequence[str],
        inputs: Sequence[Tensor],
        preferred_memory: PreferredMemory | None = None,
    ) -> None:
        self._name, self._network, self._outputs = model_name, NETWORKS[model_name], list(requested_output_names)
        self._inputs = {tensor.name(): tensor.as_numpy() for tensor in inputs}

    def exec(self) -> InferenceResponse:
        assert self._name not in NOT_READY
        try:
            answered = self._network(self._inputs)
        except ValueError as error:
            return InferenceResponse(error=TritonError(str(error)))
        return InferenceResponse([Tensor(name, answered[name]) for name in self._outputs])


def _string_to_numpy(data_type: str) -> Any:
    datatype = DATATYPE_BY_CONFIG_NAME[data_type]
    return np.object_ if datatype.value == "BYTES" else datatype.dtype.type


def backend_utils() -> types.ModuleType:
    """The module `triton_python_backend_utils`."""
    module = types.ModuleType("triton_python_backend_utils")
    for member in (TritonError, Tensor, InferenceResponse, InferenceRequest, PreferredMemory):
        setattr(module, member.__name__, member)
    module.__dict__["TRITONSERVER_MEMORY_CPU"] = 0
    module.__dict__["TRITONSERVER_RESPONSE_COMPLETE_FINAL"] = FINAL
    module.__dict__["triton_string_to_numpy"] = _string_to_numpy
    module.__dict__["is_model_ready"] = lambda name: name not in NOT_READY
    module.__dict__["load_model"] = lambda name: NOT_READY.remove(name)
    return module


class LocalModel:
    """A loaded model directory.

    Attributes:
        config: its parsed config.pbtxt.
        model: its `TritonPythonModel`.
        batches: how many requests each `execute` was given.
    """

    def __init__(self, directory: Path) -> None:
        self.config = text_format.Parse((directory / "config.pbtxt").read_text(), pb.ModelConfig())
        as_json = json_format.MessageToDict(
            self.config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        module = _load_module(directory / "1")
        self.model = module.TritonPythonModel()
        self.model.initialize(
            {
                "model_config": json.dumps(as_json),
                "model_repository": str(directory),
                "model_version": "1",
                "model_name": self.config.name,
                "model_instance_name": f"{self.config.name}_0_0",
                "model_instance_kind": "CPU",
                "model_instance_device_id": "0",
            }
        )
        self.batches: list[int] = []
        self._waiting: list[tuple[Request, asyncio.Future[dict[str, np.ndarray]]]] = []

    def execute(self, requests: Sequence[Request]) -> list[dict[str, np.ndarray] | TritonError]:
        """The outputs or the error of each request of one batch."""
        responses = self.model.execute(list(requests))
        assert len(responses) == len(requests)
        self.batches.append(len(requests))
        return [
            response.error() or {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
            for response in responses
        ]

    def ask(
        self, inputs: dict[str, np.ndarray], parameters: dict[str, Any] | None = None, outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """The outputs for one request; its error is raised."""
        (outcome,) = self.execute([self.request(inputs, parameters, outputs)])
        return _unwrap(outcome)

    def stream(
        self, inputs: dict[str, np.ndarray], parameters: dict[str, Any] | None = None
    ) -> list[dict[str, np.ndarray]]:
        """The responses of a decoupled model to one request; an error among them is raised."""
        request = self.request(inputs, parameters)
        self.model.execute([request])
        assert request.sender.finished
        return [
            _unwrap(response.error() or {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()})
            for response in request.sender.sent
        ]

    def request(
        self, inputs: dict[str, np.ndarray], parameters: dict[str, Any] | None = None, outputs: Sequence[str] = ()
    ) -> Request:
        return Request(inputs, parameters or {}, outputs or [output.name for output in self.config.output])

    async def infer(self, inputs: dict[str, np.ndarray], parameters: dict[str, Any]) -> dict[str, np.ndarray]:
        """`ask`, in one batch with everything that is asked in the same turn of the event loop."""
        future: asyncio.Future[dict[str, np.ndarray]] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.request(inputs, parameters), future))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._execute_waiting)
        return await future

    def _execute_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for (_, future), outcome in zip(waiting, self.execute([request for request, _ in waiting]), strict=True):
            try:
                future.set_result(_unwrap(outcome))
            except BackendError as error:
                future.set_exception(error)


def _unwrap(outcome: dict[str, np.ndarray] | TritonError) -> dict[str, np.ndarray]:
    if isinstance(outcome, TritonError):
        code = Code.INVALID_ARG if outcome.code() == TritonError.INVALID_ARG else Code.INTERNAL
        raise BackendError(outcome.message(), code)
    return outcome


def _load_module(version: Path) -> types.ModuleType:
    with _importable(version):
        spec = importlib.util.spec_from_file_location("model", version / "model.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@contextmanager
def _importable(version: Path) -> Iterator[None]:
    """The version directory on sys.path and fresh copies of what lies in it."""
    sys.modules["triton_python_backend_utils"] = backend_utils()
    libraries = [path.stem for path in version.glob("*.py")]
    for name in libraries:
        sys.modules.pop(name, None)
    sys.path.insert(0, str(version))
    try:
        yield
    finally:
        sys.path.remove(str(version))
        for name in (*libraries, "triton_python_backend_utils"):
            sys.modules.pop(name, None)
