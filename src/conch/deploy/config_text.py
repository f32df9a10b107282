"""The blocks that every config.pbtxt written here is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence

from conch.deploy.tasks import ParameterSpec, TensorSpec

Setting = tuple[str, str, str]


def comment(lines: Sequence[str]) -> str:
    """Lines as comments."""
    return "\n".join(f"# {line}".rstrip() for line in lines)


def parameters_help(parameters: Sequence[ParameterSpec]) -> list[str]:
    """What a request may set, for the head of a file; empty for nothing."""
    if not parameters:
        return []
    return ["", "Parameters a request may set:", *(f"  {each.name} ({each.kind}): {each.doc}" for each in parameters)]


def tensors(specs: Sequence[TensorSpec], *, inputs: bool, ragged: bool = False, labelled: Sequence[str] = ()) -> str:
    """An `input` or `output` block.

    Args:
        ragged: inputs of unequal size may share a batch.
        labelled: outputs that labels.txt names the elements of.
    """
    entries = []
    for spec in specs:
        dims = ", ".join(map(str, spec.dims))
        lines = [
            f"# {spec.doc}",
            f"name: {quote(spec.name)}",
            f"data_type: {spec.datatype.config_name}",
            f"dims: [ {dims} ]",
        ]
        if inputs and spec.optional:
            lines.append("optional: true")
        if inputs and ragged and -1 in spec.dims:
            lines.append("allow_ragged_batch: true")  # requests of unequal size share a batch
        if spec.name in labelled:
            lines.append('label_filename: "labels.txt"')
        entries.append("  {\n" + "\n".join(f"    {line}" for line in lines) + "\n  }")
    return f"{'input' if inputs else 'output'} [\n" + ",\n".join(entries) + "\n]"


def settings(values: Sequence[Setting]) -> str:
    """`parameters`, each with its comment."""
    return "\n".join(
        f"# {text}\nparameters {{ key: {quote(key)} value {{ string_value: {quote(value)} }} }}"
        for key, value, text in values
    )


def instance_group(device: str, count: int) -> str:
    """An `instance_group` block; `device` is "auto", "cpu" or "cuda"."""
    kind = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "cuda": "KIND_GPU"}[device]
    return f"instance_group [\n  {{\n    kind: {kind}\n    count: {count}\n  }}\n]"


def dynamic_batching(text: str = "") -> str:
    """A `dynamic_batching` block that waits for nobody; `text` is its comment."""
    text = text or "Requests that arrive together run as one batch. A delay makes larger batches and slower answers."
    return f"# {text}\ndynamic_batching {{\n  max_queue_delay_microseconds: 0\n}}"


def decoupled() -> str:
    """A `model_transaction_policy` block of a model that answers any number of times."""
    text = "Any number of responses to a request: a stream over gRPC, /generate_stream over HTTP."
    return f"# {text}\nmodel_transaction_policy {{\n  decoupled: true\n}}"


def quote(text: str) -> str:
    """A protobuf text format string; it takes JSON's escapes, and UTF-8 as it is."""
    return json.dumps(text, ensure_ascii=False)


def one_line(text: str) -> str:
    """A label as labels.txt can hold it."""
    return text.replace("\n", " ")
