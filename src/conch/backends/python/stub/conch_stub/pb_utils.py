"""Everything a model imports as `triton_python_backend_utils`."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import datatype as _datatype
from .bls import ResponseIterator, is_model_ready, load_model, unload_model
from .datatype import TRITON_STRING_TO_NUMPY
from .errors import TritonError, TritonModelException
from .logger import Logger
from .metrics import Metric, MetricFamily, MetricKind
from .model_config import ModelConfig
from .request import InferenceRequest, InferenceResponse, InferenceTrace, MemoryType, PreferredMemory
from .sender import InferenceResponseSender
from .tensor import Tensor

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2
TRITONSERVER_MEMORY_CPU = MemoryType.TRITONSERVER_MEMORY_CPU
TRITONSERVER_MEMORY_GPU = MemoryType.TRITONSERVER_MEMORY_GPU

__all__ = [
    "InferenceRequest",
    "InferenceResponse",
    "InferenceResponseSender",
    "InferenceTrace",
    "Logger",
    "COUNTER",
    "GAUGE",
    "HISTOGRAM",
    "Metric",
    "MetricFamily",
    "MetricKind",
    "ModelConfig",
    "PreferredMemory",
    "ResponseIterator",
    "TRITONSERVER_MEMORY_CPU",
    "TRITONSERVER_MEMORY_GPU",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START",
    "TRITONSERVER_REQUEST_RELEASE_ALL",
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL",
    "TRITON_STRING_TO_NUMPY",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "deserialize_bytes_tensor",
    "get_input_config_by_name",
    "get_input_tensor_by_name",
    "get_model_dir",
    "get_output_config_by_name",
    "get_output_tensor_by_name",
    "is_model_ready",
    "load_model",
    "numpy_to_triton_type",
    "serialize_byte_tensor",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
    "unload_model",
    "using_decoupled_model_transaction_policy",
]

#: Error texts and pickles name these classes as Triton does: its own are of the compiled module.
_CLASSES: tuple[type, ...] = (
    InferenceRequest,
    InferenceResponse,
    InferenceResponseSender,
    InferenceTrace,
    Logger,
    MemoryType,
    Metric,
    MetricFamily,
    MetricKind,
    ModelConfig,
    PreferredMemory,
    ResponseIterator,
    Tensor,
    TritonError,
    TritonModelException,
)
#: The compiled module has the kinds of metrics as names of its own, too.
COUNTER, GAUGE, HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM

for _class in _CLASSES:
    _class.__module__ = "c_python_backend_utils"

#: As models know the module.
__name__ = "triton_python_backend_utils"

_model_directory = ""


def get_model_dir() -> str:
    """The directory of the model version: the one model.py lies in."""
    return _model_directory


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """The input of that name, or None."""
    for tensor in inference_request.inputs():
        if tensor._name == name:
            return tensor
    return None


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """The output of that name, or None."""
    for tensor in inference_response.output_tensors():
        if tensor._name == name:
            return tensor
    return None


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The properties of that input in a configuration (`json.loads(args["model_config"])`), or None."""
    return next((found for found in model_config.get("input", ()) if found["name"] == name), None)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The properties of that output in a configuration, or None."""
    return next((found for found in model_config.get("output", ()) if found["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    """Whether a configuration makes its model decoupled."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def triton_to_numpy_type(data_type: int) -> Any:
    """The numpy type of Triton's number of a datatype; None for numbers without one."""
    return _datatype.NUMPY_BY_NUMBER.get(data_type)


def numpy_to_triton_type(data_type: Any) -> int | None:
    """Triton's number of a numpy type; None for types no tensor can have."""
    if data_type == np.bytes_:
        return 13
    return next((number for number, known in _datatype.NUMPY_BY_NUMBER.items() if data_type == known), None)


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """The numpy type of a `TYPE_*` name. Raises KeyError for an unknown one."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def serialize_byte_tensor(input_tensor: np.ndarray[Any, Any]) -> bytes | tuple[()] | None:
    """The elements of an object or bytes array, each behind its 4-byte length; () when empty, None for other arrays."""
    if input_tensor.size == 0:
        return ()
    if input_tensor.dtype.kind not in "OS":
        return None
    return _datatype.encode_elements(input_tensor)


def deserialize_bytes_tensor(encoded_tensor: bytes) -> np.ndarray[Any, Any]:
    """The elements behind their lengths, as a one-dimensional object array of `bytes`."""
    elements = _datatype.decode_elements(encoded_tensor)
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array
