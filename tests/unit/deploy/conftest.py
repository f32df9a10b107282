"""Tiny checkpoints, deployed once a session and asked in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.facts import read_facts
from conch.deploy.plan import Choices, Plan, make_plan
from conch.deploy.render import write_model
from conch.deploy.tasks import find_task
from conch.deploy.tasks.generation import STREAMED_TEXT_GENERATION
from tests.checkpoints import ARCHITECTURES, build
from tests.unit.deploy.stand_in import LocalModel

Deployed = Callable[..., LocalModel]


def plan_of(name: str, checkpoint: Path, choices: Choices | None = None) -> Plan:
    """The plan of the tiny checkpoint called `name`."""
    streams = choices is not None and choices.stream
    task = STREAMED_TEXT_GENERATION if streams else find_task(ARCHITECTURES[name].task)
    facts = read_facts(Checkpoint(checkpoint, name), task)
    return make_plan(name.replace(".", "-"), task, name, facts, choices or Choices())


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a tiny checkpoint by its name in the table."""
    directory = tmp_path_factory.mktemp("checkpoints")
    return lambda name: build(name, directory)


@pytest.fixture(scope="session")
def deployed(checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A loaded model by the name of its tiny checkpoint and choices; loaded once."""
    repository = tmp_path_factory.mktemp("models")
    models: dict[str, LocalModel] = {}

    def load(name: str, choices: Choices | None = None) -> LocalModel:
        key = f"{name} {choices}"
        if key not in models:
            checkpoint = checkpoint_of(name)
            plan = plan_of(name, checkpoint, choices)
            files = Checkpoint(checkpoint, name).files()
            target = repository / str(len(models))
            target.mkdir()
            models[key] = LocalModel(
                write_model(plan, checkpoint, files, target, force=False, progress=lambda path, done, total: None)
            )
        return models[key]

    return load
