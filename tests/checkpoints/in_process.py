"""Run a model directory's model.py in this process, over a small `triton_python_backend_utils`.

It has what the deployed models use of the Python backend's API, and starts in milliseconds: every task can be checked
without a server or a child process each.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

Array = npt.NDArray[Any]
Parameters = Mapping[str, Any]

NUMPY_TYPES: dict[str, Any] = {
    "TYPE_BOOL": np.bool_,
    "TYPE_UINT8": np.uint8,
    "TYPE_UINT16": np.uint16,
    "TYPE_UINT32": np.uint32,
    "TYPE_UINT64": np.uint64,
    "TYPE_INT8": np.int8,
    "TYPE_INT16": np.int16,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
    "TYPE_FP64": np.float64,
    "TYPE_STRING": np.object_,
}


class TritonError(Exception):
    """An error and its code."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        super().__init__(message)
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


class TritonModelException(Exception):
    """What a model raises to fail a batch."""


class Tensor:
    """A named array; strings are kept as bytes, as the real one hands them out."""

    def __init__(self, name: str, array: Array) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"tensor {name!r} expected a numpy array, got {type(array).__name__}")
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Array:
        return self._array


class InferenceResponse:
    """Output tensors, or an error."""

    def __init__(
        self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None, parameters: str = ""
    ) -> None:
        self._tensors, self._error, self._parameters = list(output_tensors), error, parameters

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


class ResponseSender:
    """Collects the responses of a decoupled model."""

    def __init__(self) -> None:
        self.responses: list[InferenceResponse] = []
        self.closed = False

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        if self.closed:
            raise TritonError("a response was sent after the final flag")
        if response is not None:
            self.responses.append(response)
        self.closed = bool(flags & 1)

    def is_cancelled(self) -> bool:
        return False


class Request:
    """Inputs, request parameters, and the outputs that are wanted."""

    def __init__(self, inputs: Mapping[str, Array], parameters: Parameters, outputs: Sequence[str]) -> None:
        self._inputs = [Tensor(name, array) for name, array in inputs.items()]
        self._parameters, self._outputs, self.sender = json.dumps(dict(parameters)), list(outputs), ResponseSender()

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def parameters(self) -> str:
        return self._parameters

    def requested_output_names(self) -> list[str]:
        return self._outputs

    def request_id(self) -> str:
        return ""

    def is_cancelled(self) -> bool:
        return False

    def get_response_sender(self) -> ResponseSender:
        return self.sender


class _Logger:
    """Model logs go to stderr, where pytest shows them for a test that failed."""

    @staticmethod
    def log_info(message: str) -> None:
        print(message, file=sys.stderr)

    log_warn = log_error = log_verbose = log_info


def _utilities() -> ModuleType:
    module = ModuleType("triton_python_backend_utils")
    contents: dict[str, Any] = {
        "TritonError": TritonError,
        "TritonModelException": TritonModelException,
        "Tensor": Tensor,
        "InferenceRequest": Request,
        "InferenceResponse": InferenceResponse,
        "Logger": _Logger,
        "TRITONSERVER_RESPONSE_COMPLETE_FINAL": 1,
        "triton_string_to_numpy": NUMPY_TYPES.__getitem__,
        "get_input_tensor_by_name": lambda request, name: next(
            (tensor for tensor in request.inputs() if tensor.name() == name), None
        ),
        "get_output_config_by_name": lambda config, name: next(
            (output for output in config["output"] if output["name"] == name), None
        ),
    }
    module.__dict__.update(contents)
    return module


class InProcessModel:
    """A loaded model.py.

    Attributes:
        config: config.pbtxt as the dictionary that `initialize` got.
    """

    def __init__(self, model: Any, config: dict[str, Any]) -> None:
        self._model, self.config = model, config
        self._decoupled = config.get("model_transaction_policy", {}).get("decoupled", False)

    @property
    def output_names(self) -> list[str]:
        return [output["name"] for output in self.config["output"]]

    def execute(self, calls: Sequence[tuple[Mapping[str, Array], Parameters]]) -> list[dict[str, Array] | TritonError]:
        """One execution over all calls (inputs, parameters): for each its outputs, or the error it ended with.

        A decoupled model's responses are joined along their first dimension.
        """
        requests = [Request(inputs, parameters, self.output_names) for inputs, parameters in calls]
        responses = self._model.execute(requests)
        if self._decoupled:
            return [_joined(request.sender) for request in requests]
        if len(responses) != len(requests):
            raise AssertionError(f"expected {len(requests)} responses, got {len(responses)}")
        return [response.error() or _outputs(response) for response in responses]


def _outputs(response: InferenceResponse) -> dict[str, Array]:
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def _joined(sender: ResponseSender) -> dict[str, Array] | TritonError:
    if not sender.closed:
        raise AssertionError("the model did not send the final flag")
    for response in sender.responses:
        if error := response.error():
            return error
    parts = [_outputs(response) for response in sender.responses]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@contextmanager
def loaded(directory: Path) -> Iterator[InProcessModel]:
    """Load version 1 of a model directory; it is finalized at the end. Several may be loaded at once."""
    config = _read_config(directory / "config.pbtxt")
    with _imports_from(directory / "1"):
        spec = importlib.util.spec_from_file_location("deployed_model", directory / "1" / "model.py")
        if spec is None or spec.loader is None:
            raise FileNotFoundError(f"no model.py in {directory / '1'}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.TritonPythonModel()
        model.initialize(_arguments(directory, config))
    yield InProcessModel(model, config)
    if hasattr(model, "finalize"):
        model.finalize()


@contextmanager
def _imports_from(version: Path) -> Iterator[None]:
    """Let imports find what lies beside a model.py, and forget it afterwards: the next model brings its own."""
    own = {file.stem for file in version.glob("*.py")} | {"triton_python_backend_utils"}
    sys.modules["triton_python_backend_utils"] = _utilities()
    sys.path.insert(0, str(version))
    try:
        yield
    finally:
        sys.path.remove(str(version))
        for name in own & sys.modules.keys():
            del sys.modules[name]


def _read_config(path: Path) -> dict[str, Any]:
    message = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())  # type: ignore[attr-defined]  # made at import
    config: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return config


def _arguments(directory: Path, config: dict[str, Any]) -> dict[str, str]:
    return {
        "model_config": json.dumps(config),
        "model_instance_kind": "CPU",
        "model_instance_name": f"{config['name']}_0_0",
        "model_instance_device_id": "0",
        "model_repository": str(directory),
        "model_version": "1",
        "model_name": config["name"],
    }
