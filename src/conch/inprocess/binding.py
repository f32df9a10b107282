"""What is said of a function when it becomes a model: its tensors and its batching, in the shape of PyTriton's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conch.backends.function import NAME
from conch.inprocess.tensors import datatype_of


@dataclass(frozen=True)
class Tensor:
    """An input or output of a function.

    Attributes:
        dtype: a numpy dtype, `bytes`, `bool`, or a wire name such as "BF16".
        shape: without the batch dimension; -1 is any size.
        name: "" for INPUT_1, INPUT_2, ... and OUTPUT_1, ... by position.
        optional: whether a request may leave it out.
    """

    dtype: object
    shape: Sequence[int]
    name: str = ""
    optional: bool = False


@dataclass(frozen=True)
class DynamicBatcher:
    """How requests are put together; see `dynamic_batching` of a model configuration."""

    max_queue_delay_microseconds: int = 0
    preferred_batch_size: Sequence[int] = ()
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """How a function is served.

    Attributes:
        batching: whether its tensors have a batch dimension.
        max_batch_size: most rows of a batch.
        batcher: None calls the function with one request at a time.
        response_cache: whether equal requests are answered from memory.
        decoupled: whether it is a generator that answers any number of times.
        fields: further fields of model_config.proto, as JSON values.
    """

    batching: bool = True
    max_batch_size: int = 4
    batcher: DynamicBatcher | None = DynamicBatcher()
    response_cache: bool = False
    decoupled: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)


def model_config(
    name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], config: ModelConfig, instance_count: int
) -> dict[str, Any]:
    """The model configuration as JSON values.

    Raises:
        InvalidArgumentError: a dtype that no tensor has.
    """
    document: dict[str, Any] = {
        "name": name,
        "backend": NAME,
        "max_batch_size": config.max_batch_size if config.batching else 0,
        "input": [_tensor(tensor, f"INPUT_{number}") for number, tensor in enumerate(inputs, 1)],
        "output": [_tensor(tensor, f"OUTPUT_{number}") for number, tensor in enumerate(outputs, 1)],
        "instance_group": [{"count": instance_count, "kind": "KIND_CPU"}],
    }
    if config.batching and config.batcher is not None:
        settings = {key: value for key, value in vars(config.batcher).items() if value}
        document["dynamic_batching"] = {
            key: list(value) if isinstance(value, tuple | list) else value for key, value in settings.items()
        }
    if config.response_cache:
        document["response_cache"] = {"enable": True}
    if config.decoupled:
        document["model_transaction_policy"] = {"decoupled": True}
    return {**document, **config.fields}


def _tensor(tensor: Tensor, default_name: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": tensor.name or default_name,
        "data_type": datatype_of(tensor.dtype).config_name,
        "dims": [int(size) for size in tensor.shape],
    }
    return {**described, "optional": True} if tensor.optional else described
