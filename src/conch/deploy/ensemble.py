"""A split as the files of its models: config.pbtxt of every part and of the ensemble that wires them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from conch.deploy import config_text
from conch.deploy.export import Exported
from conch.deploy.family import ModelFiles, template
from conch.deploy.plan import Plan
from conch.deploy.render import LABELLED, batching_comment
from conch.deploy.split.apart import with_rows_apart
from conch.deploy.split.parts import CorePart, PaddedAxis, Part, PythonPart, Split
from conch.deploy.tasks import TensorSpec
from conch.deploy.tool_calls import TOOL_CALL_PARSER


def settle(plan: Plan, split: Split, exported: Mapping[str, Exported]) -> Split:
    """The split with the inputs that the exported files have; what nobody reads any more is not made.

    Rows of unequal size find their way, since it is known now what the networks take.

    Args:
        exported: by the suffix of the core part.
    """
    parts = [_settle_core(part, exported[part.suffix]) if isinstance(part, CorePart) else part for part in split.parts]
    read = {tensor for part in parts for tensor in _read(part)}
    answered = {spec.name for spec in plan.outputs}
    lost = {tensor for part in split.parts for tensor in _read(part)} - read - answered
    settled = msgspec.structs.replace(split, parts=tuple(_without_outputs(part, lost) for part in parts))
    return with_rows_apart(plan.name, plan.outputs, settled)


def model_name(plan: Plan, part: Part) -> str:
    """The name of the model a part becomes."""
    return f"{plan.name}_{part.suffix}"


def ensemble_files(
    plan: Plan, split: Split, exported: Mapping[str, Exported], checkpoint: Path, notes: Sequence[str] = ()
) -> list[ModelFiles]:
    """The files of all parts and of the ensemble; those of exported networks lie in their directories already.

    Args:
        split: settled.
        checkpoint: the directory that parts take files of the checkpoint from.
        notes: lines for the head of the ensemble's configuration.
    """
    models = [_part_files(plan, part, exported.get(part.suffix), checkpoint) for part in split.parts]
    return [*models, ModelFiles(plan.name, render_ensemble(plan, split, notes), plan.labels)]


def render_ensemble(plan: Plan, split: Split, notes: Sequence[str] = ()) -> str:
    """config.pbtxt of the ensemble."""
    width = max(len(model_name(plan, part)) for part in split.parts)
    head = [
        f"{plan.task.name}: {plan.task.summary}.",
        f"Written by conch deploy from {plan.source}: an ensemble of",
        *(f"  {model_name(plan, part):<{width}}  {part.summary}" for part in split.parts),
        *(("", *notes) if notes else ()),
        *config_text.parameters_help(plan.task.parameters),
    ]
    blocks = [
        config_text.comment(head),
        f'name: "{plan.name}"\nplatform: "ensemble"\n{batching_comment(plan)}max_batch_size: {plan.max_batch_size}',
        config_text.tensors(plan.inputs, inputs=True),
        config_text.tensors(plan.outputs, inputs=False, labelled=LABELLED if plan.labels else ()),
        "ensemble_scheduling {\n  step [\n"
        + ",\n".join(_step(plan, part) for part in split.parts if not part.asked)
        + "\n  ]\n}",
        config_text.settings(
            [each for each in plan.settings if each[0] in ("task", "request_parameters", TOOL_CALL_PARSER)]
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def _step(plan: Plan, part: Part) -> str:
    lines = [f"model_name: {config_text.quote(model_name(plan, part))}", "model_version: -1"]
    for kind, specs, renamed in (("input", part.inputs, part.input_map), ("output", part.outputs, part.output_map)):
        for spec in specs:
            tensor = renamed.get(spec.name, spec.name)
            entry = f"key: {config_text.quote(spec.name)} value: {config_text.quote(tensor)}"
            lines.append(f"{kind}_map {{ {entry} }}")
    return "    {\n" + "\n".join(f"      {line}" for line in lines) + "\n    }"


def _part_files(plan: Plan, part: Part, exported: Exported | None, checkpoint: Path) -> ModelFiles:
    name = model_name(plan, part)
    labelled = tuple(spec.name for spec in part.outputs if spec.name in LABELLED and plan.labels)
    labels = plan.labels if labelled else ()
    blocks = [
        config_text.comment([f"{part.summary[0].upper()}{part.summary[1:]}: a part of the ensemble '{plan.name}'."]),
        f'name: "{name}"\n{_engine(exported)}\nmax_batch_size: {plan.max_batch_size}',
        config_text.tensors(part.inputs, inputs=True, ragged=exported is None),
        config_text.tensors(part.outputs, inputs=False, labelled=labelled),
        *([config_text.dynamic_batching()] if plan.max_batch_size > 1 and part.merges else []),
        _instances(plan, part, exported),
    ]
    if part.cached:
        text = "# The same texts come again and again: their results are kept (Triton needs --cache-config for it)."
        blocks.append(f"{text}\nresponse_cache {{\n  enable: true\n}}")
    if isinstance(part, PythonPart):
        blocks.append(config_text.settings(part.settings))
        contents = {"model.py": template(part.template), **{each: template(each) for each in part.libraries}}
        copies = {f"checkpoint/{path.as_posix()}": checkpoint / path for path in part.checkpoint}
        copies |= part.beside
        return ModelFiles(name, "\n\n".join(blocks) + "\n", labels, {**contents, **part.contents}, copies)
    settings: list[tuple[str, str, str]] = []
    if isinstance(part, CorePart) and part.padding:
        text = "requests of unequal size share a batch, padded along these axes; Triton ignores it"
        settings.append(("conch.padding", padding_declaration(part.padding), text))
    if isinstance(part, CorePart) and exported and exported.backend == "onnxruntime":
        settings += part.onnxruntime
    if settings:
        blocks.append(config_text.settings(settings))
    return ModelFiles(name, "\n\n".join(blocks) + "\n", labels)


def _instances(plan: Plan, part: Part, exported: Exported | None) -> str:
    """Device and number of instances: what the user chose is meant for what runs the network.

    Networks of texts get two on ONNX Runtime, which share the weights: a long text does not hold up the short ones, and
    on 2 cores a third more texts were answered than by one.
    """
    if part.stage == "core":
        count = plan.choices.instances
        if (
            count == 1
            and isinstance(part, CorePart)
            and part.padding
            and exported
            and exported.backend == "onnxruntime"
        ):
            count = 2
        return config_text.instance_group(plan.choices.device, count)
    return config_text.instance_group("cpu", part.instances)


def _engine(exported: Exported | None) -> str:
    if exported is None:
        return 'backend: "python"'
    lines = [f'backend: "{exported.backend}"']
    if exported.platform:
        lines.append(f'platform: "{exported.platform}"')
    return "\n".join(lines)


def padding_declaration(padding: Sequence[PaddedAxis]) -> str:
    """The value of the parameter `conch.padding`."""
    groups = {
        axis.symbol: {
            "inputs": {name: {"axis": number, "value": value} for name, (number, value) in axis.inputs.items()},
            **({"outputs": {name: {"axis": number} for name, number in axis.outputs.items()}} if axis.outputs else {}),
        }
        for axis in padding
    }
    return json.dumps(groups)


def _settle_core(part: CorePart, exported: Exported) -> CorePart:
    dropped = set(exported.dropped)
    padding = tuple(
        msgspec.structs.replace(axis, inputs={name: each for name, each in axis.inputs.items() if name not in dropped})
        for axis in part.padding
    )
    return msgspec.structs.replace(part, inputs=exported.inputs, outputs=exported.outputs, padding=padding)


def _read(part: Part) -> Iterator[str]:
    return (part.input_map.get(spec.name, spec.name) for spec in part.inputs)


def _without_outputs(part: Part, lost: set[str]) -> Part:
    """The part without the outputs that only dropped inputs read."""
    kept: tuple[TensorSpec, ...] = tuple(
        spec for spec in part.outputs if part.output_map.get(spec.name, spec.name) not in lost
    )
    return msgspec.structs.replace(part, outputs=kept)
