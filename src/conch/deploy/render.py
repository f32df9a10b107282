"""Write a plan as a model directory: config.pbtxt, labels.txt, and version 1 with model.py and the checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from conch.deploy.plan import Plan
from conch.deploy.tasks import TensorSpec
from conch.errors import AlreadyExistsError

#: Called with the file and the bytes copied so far and in all.
Progress = Callable[[Path, int, int], None]

_CHUNK_BYTES = 16 * 1024 * 1024
_TEMPLATES = resources.files("conch.deploy") / "templates"


def write_model(
    plan: Plan, checkpoint: Path, files: Sequence[Path], repository: Path, *, force: bool, progress: Progress
) -> Path:
    """Write the model's directory into the repository and return it.

    It is built beside its place and moved there at the end, so that a server never sees half a model.

    Raises:
        AlreadyExistsError: there is one of that name and `force` is not set.
    """
    directory = repository / plan.name
    if directory.exists() and not force:
        raise AlreadyExistsError(f"'{directory}' exists: pass --force to replace it, or another --name")
    building = repository / f".{plan.name}.new"
    shutil.rmtree(building, ignore_errors=True)
    version = building / "1"
    version.mkdir(parents=True)
    try:
        (building / "config.pbtxt").write_text(render_config(plan), encoding="utf-8")
        if plan.labels:
            lines = [label.replace("\n", " ") for label in plan.labels]
            (building / "labels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (version / "model.py").write_text((_TEMPLATES / plan.task.template).read_text("utf-8"), encoding="utf-8")
        for name in plan.task.libraries:
            (version / name).write_text((_TEMPLATES / name).read_text("utf-8"), encoding="utf-8")
        _copy(checkpoint, files, version / "checkpoint", progress)
        if directory.exists():
            shutil.rmtree(directory)
        building.rename(directory)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return directory


def _copy(source: Path, files: Sequence[Path], target: Path, progress: Progress) -> None:
    total = sum((source / path).stat().st_size for path in files)
    done = 0
    for path in files:
        destination = target / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        with (source / path).open("rb") as reader, destination.open("wb") as writer:
            while chunk := reader.read(_CHUNK_BYTES):
                writer.write(chunk)
                done += len(chunk)
                progress(path, done, total)


def render_config(plan: Plan) -> str:
    """config.pbtxt of a plan, commented."""
    blocks = [
        _header(plan),
        f'name: "{plan.name}"\nbackend: "python"\n{_batching_comment(plan)}max_batch_size: {plan.max_batch_size}',
        f"input [\n{_tensors(plan, plan.inputs, is_input=True)}\n]",
        f"output [\n{_tensors(plan, plan.outputs, is_input=False)}\n]",
    ]
    if plan.max_batch_size > 1:
        blocks.append(
            "# Requests that arrive together run as one batch. A delay makes larger batches and slower answers.\n"
            "dynamic_batching {\n  max_queue_delay_microseconds: 0\n}"
        )
    if plan.choices.device != "auto" or plan.choices.instances != 1:
        kind = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "cuda": "KIND_GPU"}[plan.choices.device]
        blocks.append(f"instance_group [\n  {{\n    kind: {kind}\n    count: {plan.choices.instances}\n  }}\n]")
    blocks.append(_settings(plan))
    return "\n\n".join(blocks) + "\n"


def _header(plan: Plan) -> str:
    lines = [
        f"{plan.task.name}: {plan.task.summary}.",
        f"Written by conch deploy from {plan.source}. The directory is complete: it runs on conch and on Triton.",
    ]
    if plan.task.parameters:
        lines += ["", "Parameters a request may set:"]
        lines += [f"  {each.name} ({each.kind}): {each.doc}" for each in plan.task.parameters]
    return "\n".join(f"# {line}".rstrip() for line in lines)


def _batching_comment(plan: Plan) -> str:
    if plan.max_batch_size == 0:
        return "# 0: tensors have no batch dimension.\n"
    return "# Tensors have a batch dimension in front of dims; results of unequal size are padded at the end.\n"


def _tensors(plan: Plan, tensors: Sequence[TensorSpec], *, is_input: bool) -> str:
    entries = []
    for tensor in tensors:
        dims = ", ".join(map(str, tensor.dims))
        lines = [
            f"# {tensor.doc}",
            f'name: "{tensor.name}"',
            f"data_type: {tensor.datatype.config_name}",
            f"dims: [ {dims} ]",
        ]
        if is_input and tensor.optional:
            lines.append("optional: true")
        if is_input and -1 in tensor.dims and plan.max_batch_size > 0:
            lines.append("allow_ragged_batch: true")  # requests of unequal size share a batch
        if not is_input and plan.labels and tensor.name in ("logits", "probs"):
            lines.append('label_filename: "labels.txt"')
        entries.append("  {\n" + "\n".join(f"    {line}" for line in lines) + "\n  }")
    return ",\n".join(entries)


def _settings(plan: Plan) -> str:
    return "\n".join(
        f"# {comment}\nparameters {{ key: {_quote(key)} value {{ string_value: {_quote(value)} }} }}"
        for key, value, comment in plan.settings
    )


def _quote(text: str) -> str:
    """A protobuf text format string; it takes JSON's escapes, and UTF-8 as it is."""
    return json.dumps(text, ensure_ascii=False)
