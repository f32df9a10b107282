"""Everything that decides what a deployed model looks like, as one value; made without touching a disk."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from conch.deploy.tasks import Task, TensorSpec
from conch.deploy.tasks.spec import AUDIO_INPUTS, IMAGE_INPUTS
from conch.errors import InvalidArgumentError
from conch.tensor import DataType

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Choices(msgspec.Struct, frozen=True):
    """What the user chose.

    Attributes:
        image_input: "bytes", "pixels" (UINT8) or "pixels-fp32" (values 0 to 255).
        audio_input: "bytes" or "samples" (FP32 with a sampling rate).
        device: "auto", "cpu" or "cuda".
        dtype: "auto" for the checkpoint's own, or torch's name of one.
        instances: how many copies of the model serve.
        max_batch_size: None for the task's own; 0 for tensors without a batch dimension.
        stream: send pieces of the text while it is written; the model is decoupled.
        parameters: request parameters that apply unless a request says otherwise.
    """

    image_input: str = "bytes"
    audio_input: str = "bytes"
    device: str = "auto"
    dtype: str = "auto"
    instances: int = 1
    max_batch_size: int | None = None
    trust_remote_code: bool = False
    stream: bool = False
    parameters: Mapping[str, Any] = {}


class Plan(msgspec.Struct, frozen=True):
    """A model to be written.

    Attributes:
        name: the model's name.
        task: its task.
        source: where its checkpoint came from.
        inputs, outputs: tensors with every dimension a number.
        max_batch_size: as in config.pbtxt.
        labels: names of the classes, in the order of `logits`; empty where there are none.
        settings: `parameters` of config.pbtxt, each with a comment.
        choices: what the user chose.
    """

    name: str
    task: Task
    source: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    labels: tuple[str, ...]
    settings: tuple[tuple[str, str, str], ...]
    choices: Choices


class CheckpointFacts(msgspec.Struct, frozen=True):
    """What a plan needs to know of a checkpoint.

    Attributes:
        sizes: name of a dimension -> the sizes it stands for.
        labels: names of the classes.
        settings: what its template must be told beside the task: (key, value, comment).
        missing_outputs: optional outputs this checkpoint does not have.
        architectures: names of its classes, for inputs that only some have.
    """

    sizes: Mapping[str, tuple[int, ...]]
    labels: tuple[str, ...] = ()
    settings: tuple[tuple[str, str, str], ...] = ()
    missing_outputs: frozenset[str] = frozenset()
    architectures: tuple[str, ...] = ()


def make_plan(name: str, task: Task, source: str, facts: CheckpointFacts, choices: Choices) -> Plan:
    """Put task, checkpoint and choices together.

    Raises:
        InvalidArgumentError: a choice does not fit.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(f"'{name}' cannot name a model: expected letters, digits, '_', '.' and '-'")
    known = {each.name for each in task.parameters}
    if unknown := sorted(choices.parameters.keys() - known):
        raise InvalidArgumentError(f"unknown parameters {unknown} of {task.name}; expected {sorted(known) or 'none'}")
    batch = task.max_batch_size if choices.max_batch_size is None else choices.max_batch_size
    if batch < 0:
        raise InvalidArgumentError(f"--max-batch-size should be 0 or more, got {batch}")
    if choices.stream and batch:
        raise InvalidArgumentError("--stream writes for one request after another: leave --max-batch-size out")
    read = [each for each in task.inputs if not each.only_of or each.only_of in facts.architectures]
    inputs = [converted for each in read for converted in _chosen_form(each, choices)]
    outputs = [each for each in task.outputs if each.name not in facts.missing_outputs]
    return Plan(
        name=name,
        task=task,
        source=source,
        inputs=tuple(_with_sizes(each, facts.sizes) for each in inputs),
        outputs=tuple(_with_sizes(each, facts.sizes) for each in outputs),
        max_batch_size=batch,
        labels=facts.labels if any("num_labels" in each.dims for each in task.outputs) else (),
        settings=_settings(task, facts, choices),
        choices=choices,
    )


def default_name(source: str) -> str:
    """A model's name from where it came from: the last part of the hub id or directory."""
    last = source.split("@")[0].rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-.") or "model"


def _chosen_form(tensor: TensorSpec, choices: Choices) -> list[TensorSpec]:
    """An image input as bytes or pixels, an audio input as bytes or samples."""
    replace = msgspec.structs.replace
    if tensor.name in IMAGE_INPUTS and choices.image_input != "bytes":
        datatype = {"pixels": DataType.UINT8, "pixels-fp32": DataType.FP32}[choices.image_input]
        count = () if tensor.dims == (1,) else tensor.dims
        doc = "pixels [height, width, channels], RGB, 0 to 255"
        return [replace(tensor, datatype=datatype, dims=(*count, -1, -1, 3), doc=doc)]
    if tensor.name in AUDIO_INPUTS and choices.audio_input == "samples":
        rate = TensorSpec("sampling_rate", DataType.INT32, (1,), "samples a second; the model's own if left out", True)
        return [replace(tensor, datatype=DataType.FP32, dims=(-1,), doc="mono samples, -1 to 1"), rate]
    return [tensor]


def _with_sizes(tensor: TensorSpec, sizes: Mapping[str, tuple[int, ...]]) -> TensorSpec:
    dims: list[int] = []
    for dim in tensor.dims:
        dims.extend(sizes.get(dim, (-1,)) if isinstance(dim, str) else (dim,))
    return msgspec.structs.replace(tensor, dims=tuple(dims))


def _settings(task: Task, facts: CheckpointFacts, choices: Choices) -> tuple[tuple[str, str, str], ...]:
    kinds = " ".join(f"{each.name}:{each.kind}" for each in task.parameters)
    settings = [("task", task.name, "what the model does")]
    if kinds:
        settings.append(("request_parameters", kinds, "parameters a request may set, and their kinds"))
    if choices.parameters:
        text = json.dumps(dict(choices.parameters))
        settings.append(("default_parameters", text, "their values where a request does not set them (JSON)"))
    settings.append(("dtype", choices.dtype, "number format of the weights; auto keeps the checkpoint's"))
    if choices.trust_remote_code:
        settings.append(("trust_remote_code", "true", "the checkpoint runs Python code of its own"))
    return (*settings, *facts.settings)
