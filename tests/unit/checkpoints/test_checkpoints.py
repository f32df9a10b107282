"""Every tiny checkpoint builds, loads in its own library, and says something worth comparing."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from tests import checkpoints
from tests.checkpoints.compare import mismatches

pytest.importorskip("transformers", reason="the checkpoints are made with transformers: pip install 'conch[hf]'")

LARGEST_BYTES = 1_000_000


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@functools.cache
def answers(name: str, directory: Path) -> list[Any]:
    return answer_again(name, directory)


def answer_again(name: str, directory: Path) -> list[Any]:
    if absent := checkpoints.missing(name):
        pytest.skip(f"transformers cannot run {checkpoints.ARCHITECTURES[name].task} without {', '.join(absent)}")
    return checkpoints.reference(name, checkpoints.build(name, directory))


def is_empty(answer: Any) -> bool:
    return answer is None or (hasattr(answer, "__len__") and len(answer) == 0)


@pytest.mark.parametrize("name", checkpoints.ARCHITECTURES)
def test_checkpoint_is_small_and_holds_its_weights_as_safetensors(name: str, directory: Path) -> None:
    files = [file for file in checkpoints.build(name, directory).rglob("*") if file.is_file()]

    assert sum(file.stat().st_size for file in files) < LARGEST_BYTES
    assert {"model.safetensors", "config.json"} <= {file.name for file in files}
    assert not [file for file in files if file.suffix in {".bin", ".pt", ".pkl"}]


@pytest.mark.parametrize("name", checkpoints.ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:Support for mismatched")  # WavLM, in torch itself
@pytest.mark.filterwarnings("ignore:Using the model-agnostic default")  # BLIP, of its inner decoder
def test_library_answers_every_sample_and_not_always_the_same(name: str, directory: Path) -> None:
    answered = answers(name, directory)

    assert len(answered) == len(checkpoints.sample_inputs(name)) >= 2
    assert not [answer for answer in answered if is_empty(answer)]
    assert all(mismatches(answered[0], other) for other in answered[1:])


@pytest.mark.parametrize("name", checkpoints.TASKS)
def test_answers_repeat(name: str, directory: Path) -> None:
    assert mismatches(answers(name, directory), answer_again(name, directory)) == []


def test_further_architectures_stand_beside_the_first_ones() -> None:
    assert len(checkpoints.ARCHITECTURES) > len(checkpoints.TASKS)
    assert {name: checkpoints.ARCHITECTURES[name] for name in checkpoints.TASKS} == checkpoints.TASKS
    assert {each.task for each in checkpoints.ARCHITECTURES.values()} == {
        each.task for each in checkpoints.TASKS.values()
    }


def test_every_task_of_transformers_has_a_checkpoint() -> None:
    from transformers.pipelines import SUPPORTED_TASKS

    assert set(SUPPORTED_TASKS) <= {checkpoint.task for checkpoint in checkpoints.TASKS.values()}


@pytest.mark.parametrize("name", checkpoints.TASKS)
def test_same_name_gives_the_same_files(name: str, directory: Path, tmp_path: Path) -> None:
    first, second = checkpoints.build(name, directory), checkpoints.build(name, tmp_path)

    files = [file.relative_to(first) for file in first.rglob("*") if file.is_file()]
    assert [file for file in files if (first / file).read_bytes() != (second / file).read_bytes()] == []


def test_what_is_built_already_stays(tmp_path: Path) -> None:
    config = checkpoints.build("text-classification", tmp_path) / "config.json"
    config.write_text("{}")

    checkpoints.build("text-classification", tmp_path)

    assert config.read_text() == "{}"


def test_samples_are_new_at_every_call() -> None:
    first, second = (checkpoints.sample_inputs("automatic-speech-recognition")[0].args[0] for _ in range(2))

    first.pop("raw")

    assert "raw" in second


def test_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="telepathy"):
        checkpoints.build("telepathy", tmp_path)
