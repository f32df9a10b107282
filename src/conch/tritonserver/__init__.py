"""The API of NVIDIA's `tritonserver` package over conch: for programs that were written for it.

`from conch import tritonserver` in place of `import tritonserver`. New programs have it shorter with `conch.Server`.
"""

from conch.errors import (
    AlreadyExistsError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnknownError,
    UnsupportedError,
)
from conch.errors import ConchError as TritonError
from conch.tensor import DataType
from conch.tritonserver.enums import (
    DLDeviceType,
    InstanceGroupKind,
    LogFormat,
    MemoryType,
    MetricFormat,
    MetricKind,
    ModelBatchFlag,
    ModelControlMode,
    ModelTxnPropertyFlag,
    RateLimitMode,
)
from conch.tritonserver.memory import MemoryAllocator, MemoryBuffer
from conch.tritonserver.metrics import Metric, MetricFamily
from conch.tritonserver.model import Model
from conch.tritonserver.options import Options, RateLimiterResource
from conch.tritonserver.request import InferenceRequest
from conch.tritonserver.response import AsyncResponseIterator, InferenceResponse, ResponseIterator
from conch.tritonserver.server import ModelDictionary, Server
from conch.tritonserver.tensor import Tensor

__all__ = [
    "AlreadyExistsError",
    "AsyncResponseIterator",
    "DLDeviceType",
    "DataType",
    "InferenceRequest",
    "InferenceResponse",
    "InstanceGroupKind",
    "InternalError",
    "InvalidArgumentError",
    "LogFormat",
    "MemoryAllocator",
    "MemoryBuffer",
    "MemoryType",
    "Metric",
    "MetricFamily",
    "MetricFormat",
    "MetricKind",
    "Model",
    "ModelBatchFlag",
    "ModelControlMode",
    "ModelDictionary",
    "ModelTxnPropertyFlag",
    "NotFoundError",
    "Options",
    "RateLimitMode",
    "RateLimiterResource",
    "ResponseIterator",
    "Server",
    "Tensor",
    "TritonError",
    "UnavailableError",
    "UnknownError",
    "UnsupportedError",
]
