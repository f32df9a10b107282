"""Every task, deployed from a tiny checkpoint, answers what the library's own pipeline answers."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

from tests import checkpoints
from tests.checkpoints import wire
from tests.checkpoints.compare import mismatches
from tests.checkpoints.in_process import NUMPY_TYPES, InProcessModel, TritonError, loaded
from tests.serving import ServerProcess, serving

pytest.importorskip("transformers", reason="deploying needs transformers: pip install 'conch[hf]'")

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.detect import detect_task
from conch.deploy.reference import Reference
from conch.deploy.run import Order, Written, write
from conch.deploy.tasks import TASKS, find_task
from conch.deploy.verify import make_cases, table, verify
from conch.errors import InvalidArgumentError

pytestmark = pytest.mark.slow

DEPLOYED = [
    name
    for name, checkpoint in checkpoints.TASKS.items()
    if checkpoint.task in TASKS or checkpoint.library == "sentence-transformers"
]

MEDIA = {"audio": b"no sound", "image": b"no picture", "video": b"no film"}
"""Inputs that hold encoded files, and what is none."""

AMBIGUOUS = {
    "text-classification.regression",
    "zero-shot-classification",
    "zero-shot-classification.bert",
}
"""Checkpoints that fit several tasks: a single label may be a class or a rank, an entailment model may do both."""


class Models:
    """Deployed models, each loaded when a test first asks for it."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self._stack, self._loaded = stack, dict[str, InProcessModel]()

    def __getitem__(self, name: str) -> InProcessModel:
        if name not in self._loaded:
            self._loaded[name] = self._stack.enter_context(loaded(deploy(name, self.directory).directory))
        return self._loaded[name]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    with contextlib.ExitStack() as stack:
        yield Models(tmp_path_factory.mktemp("deployed"), stack)


@functools.cache
def deploy(name: str, directory: Path) -> Written:
    """Deploy a checkpoint, with the choices a user gets who makes none."""
    if absent := checkpoints.missing(name):
        pytest.skip(f"transformers cannot run {checkpoints.TASKS[name].task} without {', '.join(absent)}")
    checkpoint = checkpoints.build(name, directory / "checkpoints")
    order = Order(str(checkpoint), directory / "models", task=checkpoints.TASKS[name].task, name=name)
    return write(order, print, lambda *_: None)


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
    outputs = unpacked(outputs)
    if model.config["max_batch_size"] == 0:
        return outputs
    assert {name: len(array) for name, array in outputs.items()} == dict.fromkeys(outputs, 1)
    return {name: array[0] for name, array in outputs.items()}


def differences(name: str, expected: Any, outputs: dict[str, Any], pixels: float = 0.0) -> list[str]:
    """Where the tensors of one sample are not what the library answered, but for that share of the pixels of a mask."""
    found = []
    if "json" in outputs and checkpoints.ARCHITECTURES[name].library == "transformers":
        got = wire.from_json(outputs["json"].reshape(-1)[0].decode(), expected)
        found += mismatches(expected, got, path="json", pixels=pixels)
    if "probs" in outputs and isinstance(expected, list):
        best = np.sort(outputs["probs"])[::-1][: len(expected)]
        found += mismatches(np.array([item["score"] for item in expected]), best, path="probs")
    for output, make in wire.OUTPUTS[checkpoints.ARCHITECTURES[name].task].items():
        wanted, got = make(expected), wire.readable(outputs[output])
        wanted = np.asarray(wanted) if isinstance(got, np.ndarray) and isinstance(wanted, list) else wanted
        if isinstance(wanted, list) and any(isinstance(each, dict) for each in wanted):
            got = [json.loads(each) for each in got]  # of texts that are JSON, numbers may differ a little
        found += mismatches(wanted, got, path=output, pixels=pixels)
    return found


def unpacked(outputs: dict[str, Any] | TritonError) -> dict[str, Any]:
    if isinstance(outputs, TritonError):
        raise outputs
    return outputs


def shapes(inputs: wire.Inputs) -> dict[str, tuple[int, ...]]:
    return {key: array.shape for key, array in inputs.items()}


def reads_media(name: str) -> bool:
    inputs = find_task(checkpoints.TASKS[name].task).inputs
    return any(tensor.name in MEDIA and not tensor.optional for tensor in inputs)


def padding_mismatches(key: str, single: Any, row: Any) -> list[str]:
    """Where a row of a batch is not the answer of the single request, padded at the end with 0 or ""."""
    if key == "json":
        return mismatches(wire.from_json(single.item()), wire.from_json(row.item()), path=key)
    padded = np.full(row.shape, b"" if row.dtype == np.object_ else 0, dtype=row.dtype)
    padded[tuple(map(slice, single.shape))] = single
    return mismatches(wire.readable(padded), wire.readable(row), path=key)


@pytest.mark.parametrize("name", DEPLOYED)
def test_each_request_alone_gets_the_pipeline_s_answer(name: str, models: Models) -> None:
    model = models[name]
    answered = [first_rows(model.execute([call])[0], model) for call in calls(name, model)]

    found = [differences(name, *pair) for pair in zip(reference(name, models.directory), answered, strict=True)]
    assert found == [[] for _ in answered]


@pytest.mark.parametrize("name", DEPLOYED)
def test_requests_together_get_the_pipeline_s_answers(name: str, models: Models) -> None:
    model = models[name]
    answered = [first_rows(outputs, model) for outputs in model.execute(calls(name, model))]

    found = [differences(name, *pair) for pair in zip(reference(name, models.directory), answered, strict=True)]
    assert found == [[] for _ in answered]


@pytest.mark.parametrize("name", DEPLOYED)
def test_outputs_have_the_declared_datatypes_and_dimensions(name: str, models: Models) -> None:
    model = models[name]
    outputs = first_rows(model.execute(calls(name, model)[:1])[0], model)

    for declared in model.config["output"]:
        dims, array = [int(size) for size in declared["dims"]], outputs[declared["name"]]
        assert array.dtype == NUMPY_TYPES[declared["data_type"]], declared["name"]
        assert array.ndim == len(dims), declared["name"]
        assert all(size in (-1, got) for size, got in zip(dims, array.shape, strict=True)), declared["name"]


@pytest.mark.parametrize("name", DEPLOYED)
def test_a_request_with_an_unknown_parameter_fails_alone(name: str, models: Models) -> None:
    model = models[name]
    good, bad = calls(name, model)[:2]
    bad = (bad[0], {**bad[1], "no_such_parameter": "1"})
    answered = model.execute([bad, good])

    assert isinstance(answered[0], TritonError)
    assert "no_such_parameter" in answered[0].message()
    assert differences(name, reference(name, models.directory)[0], first_rows(answered[1], model)) == []


@pytest.mark.parametrize("name", [name for name in DEPLOYED if reads_media(name)])
def test_a_request_with_a_broken_file_fails_alone(name: str, models: Models) -> None:
    model = models[name]
    good, bad = calls(name, model)[:2]
    for medium in MEDIA.keys() & bad[0].keys():
        bad[0][medium].reshape(-1)[0] = MEDIA[medium]
    answered = model.execute([bad, good])

    assert isinstance(answered[0], TritonError)
    assert answered[0].code() == TritonError.INVALID_ARG
    assert differences(name, reference(name, models.directory)[0], first_rows(answered[1], model)) == []


@pytest.mark.parametrize("name", DEPLOYED)
def test_rows_of_one_request_are_answered_as_single_requests(name: str, models: Models) -> None:
    model = models[name]
    if model.config["max_batch_size"] == 0:
        pytest.skip("the model's tensors have no batch dimension")
    (inputs, parameters), *others = calls(name, model)
    fitting = [other for other in others if other[1] == parameters and shapes(other[0]) == shapes(inputs)]
    rows = [(inputs, parameters), *(fitting or [(inputs, parameters)])]
    joined = {key: np.concatenate([row[0][key] for row in rows]) for key in inputs}
    together, *alone = [unpacked(model.execute([call])[0]) for call in [(joined, parameters), *rows]]

    found = [
        padding_mismatches(key, single[key][0], together[key][index])
        for index, single in enumerate(alone)
        for key in single
    ]
    assert found == [[] for _ in found]


@pytest.mark.parametrize("name", DEPLOYED)
def test_deploy_verifies_the_model(name: str, models: Models) -> None:
    model, written = models[name], deploy(name, models.directory)

    async def infer(inputs: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        return unpacked(model.execute([(inputs, parameters)])[0])

    cases = make_cases(written.plan, Reference(written.plan, written.checkpoint.path))
    verification = asyncio.run(verify(written.plan, cases, infer))

    assert verification.passed, table(verification)


@pytest.mark.parametrize("name", DEPLOYED)
def test_task_is_told_from_the_checkpoint_or_asked_for(name: str, models: Models) -> None:
    checkpoint = checkpoints.build(name, models.directory / "checkpoints")
    wanted = find_task(checkpoints.TASKS[name].task)

    if name in AMBIGUOUS:
        with pytest.raises(InvalidArgumentError, match=f"pass --task with one of .*{wanted.name}"):
            detect_task(Checkpoint(checkpoint, name))
    else:
        assert detect_task(Checkpoint(checkpoint, name)) == wanted


def test_every_task_that_can_be_deployed_is_checked_here() -> None:
    deployed = {find_task(checkpoints.TASKS[name].task).name for name in DEPLOYED}

    assert deployed == set(TASKS)
    assert {checkpoints.TASKS[name].task for name in DEPLOYED} <= set(wire.CALLS) & set(wire.OUTPUTS)


SERVED = (
    "automatic-speech-recognition",
    "object-detection.detr",
    "text-classification",
    "text-generation",
    "zero-shot-image-classification",
)
"""One checkpoint for each of the larger templates: a process each, so not all of them."""


@pytest.fixture(scope="module")
def server(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("served") / "models"
    for name in SERVED:
        shutil.copytree(deploy(name, models.directory).directory, repository / name)
    with serving(repository, limit_s=240) as process:
        yield process
        assert process.stop() == 0


def ask(server: ServerProcess, name: str, call: wire.Call) -> dict[str, Any]:
    """Send one call with NVIDIA's client; the outputs without their batch dimension."""
    outputs = ask_rows(server, name, (wire.batched(call[0]), call[1]))
    return {key: array[0] for key, array in outputs.items()}


def ask_rows(server: ServerProcess, name: str, call: wire.Call) -> dict[str, Any]:
    """Send a call whose tensors have a batch dimension."""
    tensors = []
    for key, array in call[0].items():
        tensors.append(InferInput(key, list(array.shape), np_to_triton_dtype(array.dtype)))
        tensors[-1].set_data_from_numpy(array)
    with InferenceServerClient(server.grpc_url) as client:
        result = client.infer(name, tensors, parameters=call[1])
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SERVED)
def test_served_model_gives_concurrent_clients_the_pipeline_s_answers(
    name: str, models: Models, server: ServerProcess
) -> None:
    wanted = reference(name, models.directory) * 3
    made = [wire.CALLS[checkpoints.TASKS[name].task](sample) for sample in checkpoints.sample_inputs(name)] * 3

    with ThreadPoolExecutor(len(made)) as pool:
        answered = list(pool.map(lambda call: ask(server, name, call), made))

    assert [differences(name, *pair) for pair in zip(wanted, answered, strict=True)] == [[] for _ in made]
