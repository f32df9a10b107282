"""Every task, deployed from a tiny checkpoint, answers what the library's own pipeline answers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import checkpoints
from tests.checkpoints import wire
from tests.checkpoints.compare import mismatches
from tests.checkpoints.in_process import NUMPY_TYPES, InProcessModel, TritonError, loaded

pytest.importorskip("transformers", reason="deploying needs transformers: pip install 'conch[hf]'")

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.facts import read_facts
from conch.deploy.plan import Choices, make_plan
from conch.deploy.render import write_model
from conch.deploy.tasks import TASKS, find_task

DEPLOYED = [
    name
    for name, checkpoint in checkpoints.TASKS.items()
    if checkpoint.task in TASKS or checkpoint.library == "sentence-transformers"
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployed")


@functools.cache
def deploy(name: str, directory: Path) -> Path:
    """The model directory of a checkpoint, with the choices a user gets who makes none."""
    if absent := checkpoints.missing(name):
        pytest.skip(f"transformers cannot run {checkpoints.TASKS[name].task} without {', '.join(absent)}")
    path = checkpoints.build(name, directory / "checkpoints")
    checkpoint, task = Checkpoint(path, str(path)), find_task(checkpoints.TASKS[name].task)
    plan = make_plan(name, task, str(path), read_facts(checkpoint, task), Choices())
    return write_model(plan, path, checkpoint.files(), directory / "models", force=False, progress=lambda *_: None)


@functools.cache
def reference(name: str, directory: Path) -> list[Any]:
    return checkpoints.reference(name, checkpoints.build(name, directory / "checkpoints"))


def calls(name: str, model: InProcessModel) -> list[wire.Call]:
    as_call = wire.CALLS[checkpoints.TASKS[name].task]
    made = [as_call(sample) for sample in checkpoints.sample_inputs(name)]
    if model.config["max_batch_size"] == 0:
        return made
    return [(wire.batched(inputs), parameters) for inputs, parameters in made]


def first_rows(outputs: dict[str, Any] | TritonError, model: InProcessModel) -> dict[str, Any]:
    """The outputs of a batch of one without their batch dimension."""
    if isinstance(outputs, TritonError):
        raise outputs
    if model.config["max_batch_size"] == 0:
        return outputs
    assert {name: len(array) for name, array in outputs.items()} == dict.fromkeys(outputs, 1)
    return {name: array[0] for name, array in outputs.items()}


def differences(name: str, expected: Any, outputs: dict[str, Any]) -> list[str]:
    """Where the tensors of one sample are not what the library answered."""
    found = []
    if "json" in outputs and checkpoints.TASKS[name].library == "transformers":
        found += mismatches(expected, wire.from_json(outputs["json"].reshape(-1)[0].decode(), expected), path="json")
    for output, make in wire.OUTPUTS[checkpoints.TASKS[name].task].items():
        wanted, got = make(expected), wire.readable(outputs[output])
        wanted = np.asarray(wanted) if isinstance(got, np.ndarray) and isinstance(wanted, list) else wanted
        found += mismatches(wanted, got, path=output)
    return found


@pytest.mark.parametrize("name", DEPLOYED)
def test_each_request_alone_gets_the_pipeline_s_answer(name: str, directory: Path) -> None:
    with loaded(deploy(name, directory)) as model:
        answered = [first_rows(model.execute([call])[0], model) for call in calls(name, model)]

    found = [differences(name, *pair) for pair in zip(reference(name, directory), answered, strict=True)]
    assert found == [[] for _ in answered]


@pytest.mark.parametrize("name", DEPLOYED)
def test_requests_together_get_the_pipeline_s_answers(name: str, directory: Path) -> None:
    with loaded(deploy(name, directory)) as model:
        answered = [first_rows(outputs, model) for outputs in model.execute(calls(name, model))]

    found = [differences(name, *pair) for pair in zip(reference(name, directory), answered, strict=True)]
    assert found == [[] for _ in answered]


@pytest.mark.parametrize("name", DEPLOYED)
def test_outputs_have_the_declared_datatypes_and_dimensions(name: str, directory: Path) -> None:
    with loaded(deploy(name, directory)) as model:
        outputs = first_rows(model.execute(calls(name, model)[:1])[0], model)

    for declared in model.config["output"]:
        dims, array = [int(size) for size in declared["dims"]], outputs[declared["name"]]
        assert array.dtype == NUMPY_TYPES[declared["data_type"]], declared["name"]
        assert array.ndim == len(dims), declared["name"]
        assert all(size in (-1, got) for size, got in zip(dims, array.shape, strict=True)), declared["name"]


@pytest.mark.parametrize("name", DEPLOYED)
def test_a_request_with_an_unknown_parameter_fails_alone(name: str, directory: Path) -> None:
    with loaded(deploy(name, directory)) as model:
        good, bad = calls(name, model)[:2]
        bad = (bad[0], {**bad[1], "no_such_parameter": "1"})
        answered = model.execute([bad, good])

    assert isinstance(answered[0], TritonError)
    assert "no_such_parameter" in answered[0].message()
    assert differences(name, reference(name, directory)[0], first_rows(answered[1], model)) == []


def test_every_task_that_can_be_deployed_is_checked_here() -> None:
    deployed = {find_task(checkpoints.TASKS[name].task).name for name in DEPLOYED}

    assert deployed == set(TASKS)
    assert {checkpoints.TASKS[name].task for name in DEPLOYED} <= set(wire.CALLS) & set(wire.OUTPUTS)
