from __future__ import annotations

import io
import json
import statistics
import wave
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest

from conch.bench import sample_texts
from conch.bench.samples import Wishes, alternatives, default_parameters, make_samples
from conch.bench.target import Target, TargetInput
from conch.deploy.plan import CheckpointFacts, Choices, make_plan
from conch.deploy.tasks import TASKS
from conch.errors import InvalidArgumentError
from conch.tensor import DataType


def target_of(task: str, choices: Choices = Choices()) -> Target:  # noqa: B008
    """A deployed model of a task, as `conch bench` sees it."""
    plan = make_plan("m", TASKS[task], "nowhere", CheckpointFacts({}), choices)
    inputs = tuple(
        TargetInput(spec.name, spec.datatype, tuple(map(int, spec.dims)), spec.optional) for spec in plan.inputs
    )
    return Target("m", "", inputs, tuple(spec.name for spec in plan.outputs), True, task)


def plain(*inputs: TargetInput) -> Target:
    return Target("m", "", inputs, ("OUTPUT0",), True)


def check(target: Target, sample: dict[str, np.ndarray]) -> Iterator[str]:
    """What is wrong with a sample."""
    for spec in target.inputs:
        if spec.name not in sample:
            if not spec.optional:
                yield f"{spec.name} is missing"
            continue
        array = sample[spec.name]
        if array.dtype != (object if spec.datatype is DataType.BYTES else spec.datatype.dtype):
            yield f"{spec.name} is {array.dtype}"
        fits = len(array.shape) == len(spec.dims) and all(
            dim in (-1, size) for dim, size in zip(spec.dims, array.shape, strict=True)
        )
        if not fits:
            yield f"{spec.name} has {array.shape}, not {spec.dims}"
        if spec.datatype is DataType.BYTES and not all(isinstance(each, bytes) and each for each in array.flat):
            yield f"{spec.name} has elements that are no bytes"


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_that_deploy_knows_gets_inputs_that_fit(task: str) -> None:
    if task == "video-classification":
        pytest.importorskip("av")
    target = target_of(task)
    for make in alternatives(target, Wishes(count=2)):
        samples = make()
        assert len(samples) == 2
        assert all(sample for sample in samples)
        assert [wrong for sample in samples for wrong in check(target, dict(sample))] == []


@pytest.mark.parametrize("form", ["pixels", "pixels-fp32"])
@pytest.mark.parametrize("task", ["image-classification", "keypoint-matching", "image-text-to-text"])
def test_images_come_as_pixels_where_the_model_takes_pixels(task: str, form: str) -> None:
    target = target_of(task, Choices(image_input=form))
    sample = make_samples(target, Wishes(count=1), ("image",))[0]
    assert list(check(target, dict(sample))) == []
    assert sample["image"].shape[-3:] == (480, 640, 3)
    assert 100 < sample["image"].max() <= 255


def test_sounds_come_as_samples_where_the_model_takes_samples() -> None:
    target = target_of("audio-classification", Choices(audio_input="samples"))
    sample = make_samples(target, Wishes(count=1))[0]
    assert list(check(target, dict(sample))) == []
    assert 16_000 <= len(sample["audio"]) <= 160_000


def test_images_are_jpeg_files_of_640_by_480_pixels() -> None:
    from PIL import Image

    file = make_samples(target_of("image-classification"), Wishes(count=1))[0]["image"][0]
    image = Image.open(io.BytesIO(file))
    assert (image.format, image.size) == ("JPEG", (640, 480))
    assert 20_000 < len(file) < 200_000


def test_sounds_are_wav_files_of_mixed_length() -> None:
    samples = make_samples(target_of("automatic-speech-recognition"), Wishes(count=8))
    lengths = set()
    for sample in samples:
        with wave.open(io.BytesIO(sample["audio"][0])) as file:
            assert file.getframerate() == 16_000
            lengths.add(file.getnframes())
    assert len(lengths) == 8


def test_texts_have_3_to_128_words_with_a_median_of_15() -> None:
    random = Random(0)
    lengths = [len(sample_texts.text(random).split()) for _ in range(2000)]
    assert (min(lengths), max(lengths)) == (3, 128)
    assert 14 <= statistics.median(lengths) <= 16


def test_samples_differ_from_each_other_and_repeat_with_the_seed() -> None:
    target = target_of("text-classification")
    texts = [[sample["text"][0] for sample in make_samples(target, Wishes(count=16, seed=seed))] for seed in (0, 0, 1)]
    assert len(set(texts[0])) == 16
    assert texts[0] == texts[1] != texts[2]


def test_labels_are_the_same_in_every_request() -> None:
    samples = make_samples(target_of("zero-shot-image-classification"), Wishes(count=4))
    assert {tuple(sample["text"]) for sample in samples} == {tuple(label.encode() for label in sample_texts.LABELS)}
    assert len({sample["image"][0] for sample in samples}) == 4


def test_each_mask_token_is_an_alternative() -> None:
    made = [make()[0]["text"][0] for make in alternatives(target_of("fill-mask"), Wishes(count=1))]
    assert [(b"[MASK]" in text, b"<mask>" in text) for text in made] == [(True, False), (False, True)]


def test_conversations_with_images_are_tried_before_bare_prompts() -> None:
    first, *_, last = alternatives(target_of("image-text-to-text"), Wishes(count=1))
    message = json.loads(first()[0]["messages"][0])[0]
    assert [part["type"] for part in message["content"]] == ["image", "text"]
    assert set(last()[0]) == {"text"}


def test_generation_is_kept_short() -> None:
    assert default_parameters(target_of("text-generation"))["max_new_tokens"] == 16
    assert default_parameters(target_of("text-classification")) == {}


def test_numbers_have_the_declared_shape_and_type() -> None:
    specs = [TargetInput(datatype.value, datatype, (3, 4)) for datatype in DataType if datatype is not DataType.BYTES]
    target = plain(*specs)
    assert list(check(target, dict(make_samples(target, Wishes(count=1))[0]))) == []


def test_masks_are_ones() -> None:
    sample = make_samples(plain(TargetInput("attention_mask", DataType.INT64, (5,))), Wishes(count=1))[0]
    assert sample["attention_mask"].tolist() == [1] * 5


def test_dimensions_of_any_size_must_be_given() -> None:
    target = plain(TargetInput("x", DataType.FP32, (-1, 3)))
    with pytest.raises(InvalidArgumentError, match=r"say how large to make it, e.g. --shape x:16,3"):
        make_samples(target, Wishes(count=1))
    assert make_samples(target, Wishes(shapes={"x": (7, 3)}, count=1))[0]["x"].shape == (7, 3)


def test_given_inputs_are_not_made() -> None:
    target = target_of("zero-shot-image-classification")
    assert set(make_samples(target, Wishes(count=1, fixed=frozenset({"image"})))[0]) == {"text"}


def test_bytes_take_a_given_shape_too() -> None:
    target = plain(TargetInput("text", DataType.BYTES, (-1,)))
    assert make_samples(target, Wishes(shapes={"text": (5,)}, count=1))[0]["text"].shape == (5,)
