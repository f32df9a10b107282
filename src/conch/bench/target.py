"""The model under load, as its metadata and configuration describe it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from conch.bench.wires import Wire
from conch.errors import NotFoundError, UnavailableError
from conch.tensor import DataType
from conch.tensor.datatype import DATATYPE_BY_NAME


class TargetInput(msgspec.Struct, frozen=True):
    """An input; `dims` exclude the batch dimension, -1 is any size."""

    name: str
    datatype: DataType
    dims: tuple[int, ...]
    optional: bool = False


class Step(msgspec.Struct, frozen=True):
    """A step of an ensemble: the model, and the ensemble's tensors that it reads and writes."""

    model: str
    reads: frozenset[str]
    writes: frozenset[str]


class Target(msgspec.Struct, frozen=True):
    """A model.

    Attributes:
        version: as asked for; "" for the server's choice.
        batches: its tensors have a batch dimension.
        task: parameter `task` of the configuration, "" where there is none.
        platform: "ensemble", "python", ...: what runs it.
        steps: of an ensemble, in the order of the configuration.
        settings: string parameters of the configuration.
        instances: how many copies of it the configuration asks for; 0 where it does not say.
        dynamic_batching: the configuration asks for it.
    """

    name: str
    version: str
    inputs: tuple[TargetInput, ...]
    outputs: tuple[str, ...]
    batches: bool
    task: str = ""
    platform: str = ""
    steps: tuple[Step, ...] = ()
    settings: Mapping[str, str] = {}
    instances: int = 0
    dynamic_batching: bool = False


async def describe(wire: Wire, name: str, version: str = "") -> Target:
    """Ask the server about a model.

    Raises:
        ConchError: no server answers, or it does not have the model; the text says what to do.
    """
    try:
        metadata = await wire.query("metadata", name, version)
        config = await wire.query("config", name, version)
    except UnavailableError as error:
        raise UnavailableError(
            f"no server answers at {wire.address.authority} ({error}); start one: conch serve --model-repository=models"
        ) from error
    except NotFoundError as error:
        raise NotFoundError(f"{error}{await _served(wire, name)}") from error
    return read_target(name, version, metadata, config)


def read_target(name: str, version: str, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> Target:
    """A target from the two documents, in the form of either protocol."""
    batches = int(config.get("max_batch_size", 0)) > 0
    optional = {tensor["name"] for tensor in config.get("input", []) if tensor.get("optional")}
    settings = {key: str(value.get("string_value", "")) for key, value in config.get("parameters", {}).items()}
    inputs = tuple(
        TargetInput(
            tensor["name"],
            DATATYPE_BY_NAME[tensor["datatype"]],
            tuple(int(dim) for dim in tensor.get("shape", []))[1 if batches else 0 :],
            tensor["name"] in optional,
        )
        for tensor in metadata.get("inputs", [])
    )
    steps = tuple(
        Step(
            step["model_name"],
            frozenset(step.get("input_map", {}).values()),
            frozenset(step.get("output_map", {}).values()),
        )
        for step in (config.get("ensemble_scheduling") or {}).get("step", [])
    )
    return Target(
        name,
        version,
        inputs,
        tuple(tensor["name"] for tensor in metadata.get("outputs", [])),
        batches,
        settings.get("task", ""),
        str(config.get("backend") or config.get("platform") or ""),
        steps,
        settings,
        sum(int(group.get("count", 1)) for group in config.get("instance_group", [])),
        config.get("dynamic_batching") is not None,
    )


async def _served(wire: Wire, missing: str) -> str:
    """What to do about a model that the server does not know."""
    models = (await wire.query("index")).get("models", [])
    reasons = [model["reason"] for model in models if model["name"] == missing and model.get("reason")]
    if reasons:
        return f" ({reasons[0]}); mend it and load it again"
    ready = sorted({model["name"] for model in models if model.get("state") == "READY"})
    if ready:
        return f"; the server has {', '.join(ready)}: conch bench {ready[0]}"
    return "; the server has no models: conch deploy MODEL --model-repository=models"
