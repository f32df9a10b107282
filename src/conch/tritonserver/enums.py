"""The enumerations of the API; their numbers are Triton's."""

from __future__ import annotations

import enum


class ModelControlMode(enum.Enum):
    """Who decides which models are loaded; the value is conch's word."""

    NONE = "none"
    POLL = "poll"
    EXPLICIT = "explicit"


class LogFormat(enum.Enum):
    """The form of log lines."""

    DEFAULT = "default"
    ISO8601 = "ISO8601"


class RateLimitMode(enum.Enum):
    """Whether instances wait for resources."""

    OFF = "off"
    EXEC_COUNT = "execution_count"


class MemoryType(enum.IntEnum):
    """Where a tensor lies; in conch always CPU."""

    CPU = 0
    CPU_PINNED = 1
    GPU = 2


class InstanceGroupKind(enum.IntEnum):
    """What an instance runs on."""

    AUTO = 0
    CPU = 1
    GPU = 2
    MODEL = 3


class ModelBatchFlag(enum.IntFlag):
    """How a model batches."""

    UNKNOWN = 1
    FIRST_DIM = 2


class ModelTxnPropertyFlag(enum.IntFlag):
    """How many responses a request has."""

    ONE_TO_ONE = 1
    DECOUPLED = 2


class MetricKind(enum.Enum):
    """What a metric counts; the value is conch's word."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class MetricFormat(enum.IntEnum):
    """The form of the metrics page."""

    PROMETHEUS = 0


class DLDeviceType(enum.IntEnum):
    """Devices of DLPack."""

    kDLCPU = 1
    kDLCUDA = 2
