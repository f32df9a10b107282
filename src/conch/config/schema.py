"""Model configuration as frozen values, named as in model_config.proto.

`ModelConfig.message` keeps the protobuf message it was read from (complete, defaults filled in); the fields are the
part that the server acts on. Whoever changes a configuration changes a copy of the message and parses it again
(`conch.config.pbtxt.from_message`).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conch.config.proto import ModelConfigMessage
from conch.tensor import DataType


class ModelInput(msgspec.Struct, frozen=True):
    """An input. `dims` excludes the batch dimension; -1 is any size. `reshape` is what the model itself receives."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]
    reshape: tuple[int, ...] | None = None
    optional: bool = False
    allow_ragged_batch: bool = False


class ModelOutput(msgspec.Struct, frozen=True):
    """An output. `dims` excludes the batch dimension; `label_filename` is relative to the model's directory."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]
    reshape: tuple[int, ...] | None = None
    label_filename: str = ""


class VersionPolicy(msgspec.Struct, frozen=True):
    """Which version directories are served: exactly one field is set (`latest` counts versions from the newest)."""

    latest: int | None = None
    all: bool = False
    specific: tuple[int, ...] | None = None


class InstanceGroup(msgspec.Struct, frozen=True):
    """A group of equal instances. `kind` is "AUTO", "GPU", "CPU" or "MODEL"; one set of `count` per entry of `gpus`."""

    name: str
    kind: str
    count: int
    gpus: tuple[int, ...] = ()
    passive: bool = False


class QueuePolicy(msgspec.Struct, frozen=True):
    """How long and how many requests may wait. `timeout_action` is "REJECT" or "DELAY"; 0 means no limit."""

    timeout_action: str = "REJECT"
    default_timeout_microseconds: int = 0
    allow_timeout_override: bool = False
    max_queue_size: int = 0


class DynamicBatching(msgspec.Struct, frozen=True):
    """Settings of the dynamic batcher; `priority_levels` 0 means no priorities."""

    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy = QueuePolicy()
    priority_queue_policy: Mapping[int, QueuePolicy] = {}


class EnsembleStep(msgspec.Struct, frozen=True):
    """One model of an ensemble. The maps lead from its own tensor names to the ensemble's; version -1 is the newest."""

    model_name: str
    model_version: int
    input_map: Mapping[str, str]
    output_map: Mapping[str, str]


class EnsembleScheduling(msgspec.Struct, frozen=True):
    """The steps of an ensemble; `max_inflight_requests` bounds the requests at each of them, 0 means no limit."""

    step: tuple[EnsembleStep, ...]
    max_inflight_requests: int = 0


class ModelConfig(msgspec.Struct, frozen=True):
    """A model's configuration.

    Attributes:
        message: the protobuf message behind it; treat as immutable.
        max_batch_size: 0 for a model whose tensors have no batch dimension.
        dynamic_batching: None for the direct scheduler.
        parameters: `parameters { key value { string_value } }` flattened.
        decoupled: model_transaction_policy.decoupled.
        response_cache: response_cache.enable.
        ensemble_scheduling: None for every model that is not an ensemble.
    """

    message: ModelConfigMessage
    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: tuple[ModelInput, ...]
    output: tuple[ModelOutput, ...]
    version_policy: VersionPolicy
    instance_group: tuple[InstanceGroup, ...]
    dynamic_batching: DynamicBatching | None
    default_model_filename: str
    parameters: Mapping[str, str]
    decoupled: bool = False
    response_cache: bool = False
    ensemble_scheduling: EnsembleScheduling | None = None
