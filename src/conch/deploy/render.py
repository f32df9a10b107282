"""A plan as the files of one model that holds the whole pipeline (approach 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from conch.deploy import config_text
from conch.deploy.family import Family, ModelFiles, Progress, template
from conch.deploy.plan import Plan

#: Outputs whose elements are classes.
LABELLED = ("logits", "probs")


def write_model(
    plan: Plan, checkpoint: Path, files: Sequence[Path], repository: Path, *, force: bool, progress: Progress
) -> Path:
    """Write the model's directory into the repository and return it.

    It is built beside its place and moved there at the end, so that a server never sees half a model.

    Raises:
        AlreadyExistsError: there is one of that name and `force` is not set.
    """
    with Family(repository, plan.name, force=force) as family:
        family.write([pipeline_model(plan, checkpoint, files)], progress)
        return family.publish()


def pipeline_model(
    plan: Plan, checkpoint: Path, files: Sequence[Path], beside: Mapping[str, Path] | None = None
) -> ModelFiles:
    """The files of a model that holds the whole pipeline; `files` are those of the checkpoint that it needs.

    Args:
        beside: path in the version directory -> a file that lies elsewhere.
    """
    contents = {"model.py": template(plan.task.template)}
    contents |= {name: template(name) for name in plan.task.libraries}
    copies = {f"checkpoint/{path.as_posix()}": checkpoint / path for path in files}
    return ModelFiles(plan.name, render_config(plan), plan.labels, contents, {**copies, **(beside or {})})


def render_config(plan: Plan) -> str:
    """config.pbtxt of a plan, commented."""
    batched = plan.max_batch_size > 0
    head = [
        f"{plan.task.name}: {plan.task.summary}.",
        f"Written by conch deploy from {plan.source}. The directory is complete: it runs on conch and on Triton.",
        *config_text.parameters_help(plan.task.parameters),
    ]
    blocks = [
        config_text.comment(head),
        f'name: "{plan.name}"\nbackend: "python"\n{batching_comment(plan)}max_batch_size: {plan.max_batch_size}',
        config_text.tensors(plan.inputs, inputs=True, ragged=batched),
        config_text.tensors(plan.outputs, inputs=False, labelled=LABELLED if plan.labels else ()),
    ]
    if plan.choices.stream:
        blocks.append(config_text.decoupled())
    if plan.max_batch_size > 1:
        blocks.append(config_text.dynamic_batching())
    if plan.choices.device != "auto" or plan.choices.instances != 1:
        blocks.append(config_text.instance_group(plan.choices.device, plan.choices.instances))
    blocks.append(config_text.settings(plan.settings))
    return "\n\n".join(blocks) + "\n"


def batching_comment(plan: Plan) -> str:
    """What `max_batch_size` means for the tensors of a plan."""
    if plan.max_batch_size == 0:
        return "# 0: tensors have no batch dimension.\n"
    return "# Tensors have a batch dimension in front of dims; results of unequal size are padded at the end.\n"
