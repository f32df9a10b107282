"""A whole deploy: fetch, tell the task, plan, write, verify."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.detect import detect_task
from conch.deploy.extras import require
from conch.deploy.facts import read_facts
from conch.deploy.plan import Choices, Plan, default_name, make_plan
from conch.deploy.reference import Reference
from conch.deploy.render import Progress, write_model
from conch.deploy.source import fetch
from conch.deploy.tasks import Task, find_task
from conch.deploy.verify import Infer, Verification, make_cases, verify

#: Loads a model of a repository for as long as the context lasts.
OpenModel = Callable[[Path, str], AbstractAsyncContextManager[Infer]]

#: Package -> module, where they are not named alike.
_MODULES = {"pillow": "PIL"}


class Order(msgspec.Struct, frozen=True):
    """What to deploy.

    Attributes:
        model: hub id or directory.
        repository: the model repository to write to; made if it is not there.
        task: "" to tell it from the checkpoint.
        name: "" to name the model after its checkpoint.
        choices: how to serve it.
        allow_pickle: load pickled weights.
        force: replace a model of that name.
    """

    model: str
    repository: Path
    task: str = ""
    name: str = ""
    choices: Choices = Choices()
    allow_pickle: bool = False
    force: bool = False


class Written(msgspec.Struct, frozen=True):
    """A model that was written, and where."""

    plan: Plan
    checkpoint: Checkpoint
    directory: Path


def write(order: Order, say: Callable[[str], None], progress: Progress) -> Written:
    """Everything up to the model's directory.

    Raises:
        ConchError: the text says what to do.
    """
    trusted = order.choices.trust_remote_code
    task = find_task(order.task) if order.task else None
    require("torch")
    require("transformers")
    checkpoint = fetch(order.model, allow_pickle=order.allow_pickle, trust_remote_code=trusted)
    task = task or detect_task(checkpoint)
    say(f"{checkpoint.source}: {task.name} ({task.summary})")
    for package in task.packages:
        require(_MODULES.get(package, package), package)
    facts = read_facts(checkpoint, task, trust_remote_code=trusted)
    plan = make_plan(order.name or _name(checkpoint, order), task, checkpoint.source, facts, order.choices)
    pickle = order.allow_pickle and not checkpoint.has_safetensors()
    files = checkpoint.files(pickle=pickle, code=trusted)
    directory = write_model(plan, checkpoint.path, files, order.repository, force=order.force, progress=progress)
    say(f"wrote {directory}")
    return Written(plan, checkpoint, directory)


async def check(written: Written, open_model: OpenModel, say: Callable[[str], None]) -> Verification:
    """Compare the written model with the library's own."""
    say("verifying: the same samples through the library and through the deployed model")
    cases = make_cases(written.plan, Reference(written.plan, written.checkpoint.path))
    async with open_model(written.directory.parent, written.plan.name) as infer:
        return await verify(written.plan, cases, infer)


def _name(checkpoint: Checkpoint, order: Order) -> str:
    """The model's name when none was given; a directory is named by its own last part, whatever `order.model` says."""
    local = Path(order.model).expanduser()
    return default_name(local.resolve().name if local.is_dir() else checkpoint.source)


__all__ = ["OpenModel", "Order", "Task", "Written", "check", "write"]
