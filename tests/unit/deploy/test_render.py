"""A plan is written as a model directory that Triton's configuration format accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from conch.deploy.plan import CheckpointFacts, Choices, Plan, make_plan
from conch.deploy.render import render_config, write_model
from conch.deploy.tasks import TASKS, find_task
from conch.deploy.tasks.generation import STREAMED_TEXT_GENERATION
from conch.errors import AlreadyExistsError

FACTS = CheckpointFacts(
    sizes={"num_labels": (2,)}, labels=('ca"t', "d\nog"), settings=(("pooling", 'mean "é"', "a comment"),)
)


def plan(task: str = "text-classification", choices: Choices | None = None) -> Plan:
    return make_plan("model", find_task(task), "owner/name", FACTS, choices or Choices())


def parsed(written: Plan) -> pb.ModelConfig:
    return text_format.Parse(render_config(written), pb.ModelConfig())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("choices", [Choices(), Choices(image_input="pixels", audio_input="samples", max_batch_size=0)])
def test_configuration_of_every_task_is_valid_and_says_what_the_plan_says(task: str, choices: Choices) -> None:
    written = plan(task, choices)
    config = parsed(written)
    assert (config.name, config.backend) == ("model", "python")
    assert config.max_batch_size == written.max_batch_size
    for messages, specs in ((config.input, written.inputs), (config.output, written.outputs)):
        assert [(each.name, tuple(each.dims)) for each in messages] == [(each.name, each.dims) for each in specs]
        types = [pb.DataType.Name(each.data_type) for each in messages]
        assert types == [each.datatype.config_name for each in specs]
    assert config.parameters["task"].string_value == task


def test_inputs_of_any_size_share_a_batch() -> None:
    ragged = {each.name: each.allow_ragged_batch for each in parsed(plan("zero-shot-image-classification")).input}
    assert ragged == {"image": False, "text": True}


def test_model_without_batch_dimension_has_no_batcher() -> None:
    config = parsed(plan("zero-shot-image-classification", Choices(max_batch_size=0)))
    assert not config.HasField("dynamic_batching")
    assert not any(each.allow_ragged_batch for each in config.input)


def test_classes_are_named_for_the_classification_extension() -> None:
    files = {each.name: each.label_filename for each in parsed(plan()).output}
    assert files == {"logits": "labels.txt", "probs": "labels.txt", "label": "", "json": ""}


def test_settings_survive_quotes_and_other_alphabets() -> None:
    assert parsed(plan()).parameters["pooling"].string_value == 'mean "é"'


def test_device_and_instances_become_an_instance_group() -> None:
    (group,) = parsed(plan(choices=Choices(device="cuda", instances=2))).instance_group
    assert (group.kind, group.count) == (pb.ModelInstanceGroup.KIND_GPU, 2)
    assert not parsed(plan()).instance_group


def write(
    repository: Path, *, force: bool = False, files: tuple[str, ...] = ("config.json", "1_Pooling/config.json")
) -> Path:
    checkpoint = repository / "source"
    for name in ("config.json", "1_Pooling/config.json"):
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_text(f"content of {name}")
    paths = [Path(name) for name in files]
    return write_model(plan(), checkpoint, paths, repository, force=force, progress=lambda path, done, total: None)


def test_directory_holds_all_that_the_model_needs(tmp_path: Path) -> None:
    directory = write(tmp_path)
    found = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    assert found == [
        "1/checkpoint/1_Pooling/config.json",
        "1/checkpoint/config.json",
        "1/hf_serving.py",
        "1/hf_text.py",
        "1/light_inputs.py",
        "1/light_outputs.py",
        "1/light_serving.py",
        "1/model.py",
        "config.pbtxt",
        "labels.txt",
    ]
    assert (directory / "labels.txt").read_text() == 'ca"t\nd og\n'
    assert (directory / "1/checkpoint/config.json").read_text() == "content of config.json"


def test_model_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    directory = write(tmp_path)
    (directory / "mine.txt").write_text("")
    with pytest.raises(AlreadyExistsError, match="exists: pass --force to replace it, or another --name"):
        write(tmp_path)
    assert (directory / "mine.txt").exists()
    write(tmp_path, force=True)
    assert not (directory / "mine.txt").exists()


def test_failed_write_leaves_the_repository_as_it_was(tmp_path: Path) -> None:
    directory = write(tmp_path)
    with pytest.raises(FileNotFoundError):
        write(tmp_path, force=True, files=("config.json", "gone.json"))
    assert (directory / "1/checkpoint/config.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "source"]


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/config.json").write_text("12345")
    told: list[tuple[int, int]] = []
    write_model(
        plan(),
        tmp_path / "source",
        [Path("config.json")],
        tmp_path,
        force=False,
        progress=lambda path, done, total: told.append((done, total)),
    )
    assert told == [(5, 5)]


def test_a_streaming_model_is_decoupled() -> None:
    facts, choices = CheckpointFacts(sizes={}), Choices(stream=True)
    config = parsed(make_plan("model", STREAMED_TEXT_GENERATION, "owner/name", facts, choices))
    assert config.model_transaction_policy.decoupled
    assert config.max_batch_size == 0
    assert [each.name for each in config.output] == [
        "text",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "logprobs",
    ]
    assert not parsed(plan("text-generation")).model_transaction_policy.decoupled
