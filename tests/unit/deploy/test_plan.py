"""A plan puts task, checkpoint and choices together."""

from __future__ import annotations

import pytest

from conch.deploy.plan import CheckpointFacts, Choices, Plan, default_name, make_plan
from conch.deploy.tasks import find_task
from conch.deploy.tasks.generation import STREAMED_TEXT_GENERATION
from conch.errors import InvalidArgumentError
from conch.tensor import DataType

FACTS = CheckpointFacts(sizes={"num_labels": (3,), "hidden_size": (8,)}, labels=("a", "b", "c"))


def plan(task: str, facts: CheckpointFacts = FACTS, **choices: object) -> Plan:
    return make_plan("model", find_task(task), "owner/name", facts, Choices(**choices))  # type: ignore[arg-type]


def test_named_sizes_become_numbers_and_unknown_ones_any() -> None:
    assert plan("text-classification").outputs[0].dims == (3,)
    assert plan("feature-extraction").outputs[0].dims == (-1, 8)
    assert plan("sentence-embedding").outputs[0].dims == (-1,)


@pytest.mark.parametrize(("form", "datatype"), [("pixels", DataType.UINT8), ("pixels-fp32", DataType.FP32)])
def test_images_can_be_pixels(form: str, datatype: DataType) -> None:
    image = plan("image-classification", image_input=form).inputs[0]
    assert (image.datatype, image.dims) == (datatype, (-1, -1, 3))
    pair = plan("keypoint-matching", image_input=form).inputs[0]
    assert pair.dims == (2, -1, -1, 3)


def test_sounds_can_be_samples_with_a_rate() -> None:
    audio, rate = plan("audio-classification", audio_input="samples").inputs
    assert (audio.datatype, audio.dims) == (DataType.FP32, (-1,))
    assert (rate.name, rate.datatype, rate.optional) == ("sampling_rate", DataType.INT32, True)


def test_only_classifiers_have_labels() -> None:
    assert plan("text-classification").labels == ("a", "b", "c")
    assert plan("fill-mask").labels == ()


def test_missing_output_is_left_out() -> None:
    facts = CheckpointFacts(sizes={}, missing_outputs=frozenset({"pooler_output"}))
    assert [each.name for each in plan("image-feature-extraction", facts).outputs] == ["last_hidden_state"]


def test_inputs_of_one_architecture_are_of_its_models_alone() -> None:
    assert [each.name for each in plan("text-to-audio").inputs] == ["text"]
    facts = CheckpointFacts(sizes={"speaker_embedding_dim": (512,)}, architectures=("SpeechT5ForTextToSpeech",))
    _, speaker = plan("text-to-audio", facts).inputs
    assert (speaker.name, speaker.dims, speaker.optional) == ("speaker_embeddings", (512,), False)


def test_parameter_the_task_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"unknown parameters \['threshold'\] of text-classification"):
        plan("text-classification", parameters={"threshold": 1})


def test_negative_batch_size_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="--max-batch-size should be 0 or more, got -1"):
        plan("text-classification", max_batch_size=-1)


@pytest.mark.parametrize("name", ["", "../up", "a b", ".hidden"])
def test_name_that_is_no_model_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot name a model"):
        make_plan(name, find_task("fill-mask"), "x", FACTS, Choices())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("openai/clip-vit-base-patch32@main", "clip-vit-base-patch32"),
        ("/data/my model/", "my-model"),
        ("gpt2", "gpt2"),
        ("...", "model"),
    ],
)
def test_model_is_named_after_the_last_part_of_its_source(source: str, name: str) -> None:
    assert default_name(source) == name


def test_a_streaming_model_takes_no_batches() -> None:
    facts, streamed = CheckpointFacts(sizes={}), STREAMED_TEXT_GENERATION
    assert make_plan("model", streamed, "owner/name", facts, Choices(stream=True)).max_batch_size == 0
    with pytest.raises(InvalidArgumentError, match="leave --max-batch-size out"):
        make_plan("model", streamed, "owner/name", facts, Choices(stream=True, max_batch_size=4))
