"""Model configuration as frozen values, named as in model_config.proto.

`ModelConfig.message` keeps the protobuf message it was read from (complete, defaults filled in); the fields are the
part that the server acts on. Whoever changes a configuration changes a copy of the message and parses it again
(`conch.config.pbtxt.from_message`).
"""

from __future__ import annotations

import enum
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


class BatchInputKind(enum.Enum):
    """What an input made of a batch tells of its source, named as in model_config.proto.

    Attributes:
        ELEMENT_COUNT: elements, one entry a request.
        ACCUMULATED_ELEMENT_COUNT: elements of this request and those before it.
        ACCUMULATED_ELEMENT_COUNT_WITH_ZERO: the same after a first entry of 0.
        MAX_ELEMENT_COUNT_AS_SHAPE: zeros, as many as the largest request has elements.
        ITEM_SHAPE: the shape without the batch dimension, one row an inference.
        ITEM_SHAPE_FLATTEN: the same in one dimension.
    """

    ELEMENT_COUNT = "BATCH_ELEMENT_COUNT"
    ACCUMULATED_ELEMENT_COUNT = "BATCH_ACCUMULATED_ELEMENT_COUNT"
    ACCUMULATED_ELEMENT_COUNT_WITH_ZERO = "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO"
    MAX_ELEMENT_COUNT_AS_SHAPE = "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE"
    ITEM_SHAPE = "BATCH_ITEM_SHAPE"
    ITEM_SHAPE_FLATTEN = "BATCH_ITEM_SHAPE_FLATTEN"


class BatchInput(msgspec.Struct, frozen=True):
    """An input (the same under several names) that tells the model of an input of a batch's requests."""

    kind: BatchInputKind
    target_name: tuple[str, ...]
    data_type: DataType
    source_input: str


class BatchOutput(msgspec.Struct, frozen=True):
    """Outputs whose elements lie one request after the other, each with the sizes of its request's `source_input`."""

    target_name: tuple[str, ...]
    source_input: str


class VersionPolicy(msgspec.Struct, frozen=True):
    """Which version directories are served: exactly one field is set (`latest` counts versions from the newest)."""

    latest: int | None = None
    all: bool = False
    specific: tuple[int, ...] | None = None


class RateResource(msgspec.Struct, frozen=True):
    """Something that instances share: on each device, or (`is_global`) in the whole server."""

    name: str
    count: int
    is_global: bool = False


class RateLimit(msgspec.Struct, frozen=True):
    """What an instance needs while it executes; one of priority 2 is given half as many turns as one of priority 1."""

    resources: tuple[RateResource, ...] = ()
    priority: int = 0


class InstanceGroup(msgspec.Struct, frozen=True):
    """A group of equal instances. `kind` is "AUTO", "GPU", "CPU" or "MODEL"; one set of `count` per entry of `gpus`."""

    name: str
    kind: str
    count: int
    gpus: tuple[int, ...] = ()
    passive: bool = False
    rate_limit: RateLimit = RateLimit()


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


class SequenceControl(msgspec.Struct, frozen=True):
    """A tensor that tells the model where in its sequence a request stands.

    Attributes:
        kind: "START", "END", "READY" or "CORRID".
        false_true: the two values of it; None for "CORRID", which holds the correlation id.
    """

    name: str
    kind: str
    data_type: DataType
    false_true: tuple[float, float] | None = None


class InitialState(msgspec.Struct, frozen=True):
    """What a state starts from: the file `initial_state/<data_file>` of the model, or zeros where that is ""."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]
    data_file: str = ""


class SequenceState(msgspec.Struct, frozen=True):
    """An output that becomes an input of the sequence's next request; `dims` excludes the batch dimension."""

    input_name: str
    output_name: str
    data_type: DataType
    dims: tuple[int, ...]
    initial_state: InitialState | None = None


class DirectSequences(msgspec.Struct, frozen=True):
    """Each sequence has a fixed place in the batches of one instance."""

    max_queue_delay_microseconds: int = 0
    minimum_slot_utilization: float = 0.0


class OldestSequences(msgspec.Struct, frozen=True):
    """Each sequence has an instance, whose batches are made of the oldest requests of the sequences it has."""

    max_candidate_sequences: int
    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False


class SequenceBatching(msgspec.Struct, frozen=True):
    """Settings of the sequence batcher.

    Attributes:
        max_sequence_idle_microseconds: a sequence without requests for so long is ended.
        iterative_sequence: each request is a sequence of its own, executed again as often as the model asks for it.
    """

    strategy: DirectSequences | OldestSequences
    max_sequence_idle_microseconds: int
    controls: tuple[SequenceControl, ...] = ()
    states: tuple[SequenceState, ...] = ()
    iterative_sequence: bool = False


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


class WarmUpInput(msgspec.Struct, frozen=True):
    """An input of a warm-up request; `source` is "zero_data", "random_data", "input_data_file" or "" (not given)."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]
    source: str
    data_file: str = ""


class WarmUp(msgspec.Struct, frozen=True):
    """`batch_size` equal requests (0 for none) in one batch, `count` times, before an instance takes others."""

    name: str
    batch_size: int
    count: int
    inputs: tuple[WarmUpInput, ...]


class ModelConfig(msgspec.Struct, frozen=True):
    """A model's configuration.

    Attributes:
        message: the protobuf message behind it; treat as immutable.
        max_batch_size: 0 for a model whose tensors have no batch dimension.
        dynamic_batching: None for the direct scheduler.
        sequence_batching: None for a model whose requests have nothing to do with each other.
        batch_input: inputs of the model that are made of a batch, not given by requests; framework backends have them.
        batch_output: outputs that are taken apart along an input of the requests.
        parameters: `parameters { key value { string_value } }` flattened.
        decoupled: model_transaction_policy.decoupled.
        first_response_buckets: model_metrics: upper bounds in ms of the histogram of first responses; () for the usual.
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
    first_response_buckets: tuple[float, ...] = ()
    response_cache: bool = False
    ensemble_scheduling: EnsembleScheduling | None = None
    sequence_batching: SequenceBatching | None = None
    model_warmup: tuple[WarmUp, ...] = ()
    batch_input: tuple[BatchInput, ...] = ()
    batch_output: tuple[BatchOutput, ...] = ()
