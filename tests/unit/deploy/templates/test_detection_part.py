"""The light part behind a detector's network finds the objects that transformers' processors find."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conch.deploy.split.parts import CannotSplit
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import load_part

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
detection = pytest.importorskip("conch.deploy.split.detection")

PROCESSORS = {
    "DetrImageProcessorPil": {"scores": "softmax", "top": None},
    "YolosImageProcessorPil": {"scores": "softmax", "top": None},
    "ConditionalDetrImageProcessorPil": {"scores": "sigmoid", "top": 100},
    "DeformableDetrImageProcessorPil": {"scores": "sigmoid", "top": 100},
    "RTDetrImageProcessorPil": {"scores": "sigmoid", "top": "queries"},
    "OwlViTImageProcessorPil": {"scores": "sigmoid", "top": None},
    "Owlv2ImageProcessorPil": {"scores": "sigmoid", "top": None, "square": True},
}
INPUTS = {"logits": "TYPE_FP32 -1 -1", "pred_boxes": "TYPE_FP32 -1 4", "image_size": "TYPE_INT64 2"}
OUTPUTS = {
    "boxes": "TYPE_INT32 -1 4",
    "scores": "TYPE_FP32 -1",
    "labels": "TYPE_STRING -1",
    "json": "TYPE_STRING 1",
}


def detection_part(directory: Path, settings: Mapping[str, Any], classes: int) -> LocalModel:
    contents = {
        "labels.json": json.dumps([f"class {number}" for number in range(classes)]).encode(),
        "detection_settings.json": json.dumps(settings).encode(),
    }
    values = {"task": "object-detection", "request_parameters": "threshold:float"}
    return load_part(directory, "find_objects.py", INPUTS, OUTPUTS, values, contents)


def drawn(queries: int, classes: int, seed: int) -> dict[str, np.ndarray]:
    """What a network might say of one image; no two scores are so close that rounding decides which is the better."""
    random = np.random.default_rng(seed)
    logits = random.permutation(np.linspace(-6, 6, queries * classes, dtype=np.float32))
    return {
        "logits": logits.reshape(1, queries, classes),
        "pred_boxes": random.uniform(0, 1, (1, queries, 4)).astype(np.float32),
    }


@pytest.mark.parametrize("name", sorted(PROCESSORS))
def test_objects_are_those_of_the_processor(name: str, tmp_path: Path) -> None:
    processor = getattr(transformers, name)()
    settings = detection.detection_settings(processor)
    assert settings == PROCESSORS[name]
    part = detection_part(tmp_path, settings, 91)
    for seed, (queries, classes, height, width) in enumerate([(100, 91, 480, 640), (9, 3, 33, 1001), (300, 7, 97, 61)]):
        said = drawn(queries, classes, seed)
        output = SimpleNamespace(**{field: torch.from_numpy(array) for field, array in said.items()})
        size = torch.tensor([[height, width]]).int()
        for threshold in (0.0, 0.5, 0.97):
            (expected,) = processor.post_process_object_detection(output, threshold, size)
            got = part.ask({**said, "image_size": size.numpy().astype(np.int64)}, {"threshold": threshold})
            np.testing.assert_array_equal(got["boxes"][0], expected["boxes"].int().reshape(-1, 4).numpy())
            np.testing.assert_allclose(got["scores"][0], expected["scores"].numpy(), rtol=0, atol=1e-6)
            assert [label.decode() for label in got["labels"][0]] == [f"class {kind}" for kind in expected["labels"]]


def test_threshold_is_the_pipelines_unless_a_request_says_otherwise(tmp_path: Path) -> None:
    part = detection_part(tmp_path, {"scores": "softmax", "top": None}, 4)
    asked = {**drawn(20, 5, 7), "image_size": np.array([[30, 40]])}
    usual, half = part.ask(asked), part.ask(asked, {"threshold": "0.5"})
    np.testing.assert_array_equal(usual["scores"], half["scores"])
    objects = json.loads(usual["json"][0, 0])
    assert [each["score"] for each in objects] == pytest.approx(usual["scores"][0].tolist())
    assert [list(each["box"]) for each in objects] == [["xmin", "ymin", "xmax", "ymax"]] * len(objects) != []
    assert usual["scores"].min() > 0.5


def test_extreme_logits_are_scores_without_a_warning(tmp_path: Path) -> None:
    part = detection_part(tmp_path, {"scores": "sigmoid", "top": "queries"}, 2)
    said = {"logits": np.array([[[500, -500], [-500, -900]]], np.float32), "pred_boxes": drawn(2, 2, 1)["pred_boxes"]}
    assert part.ask({**said, "image_size": np.array([[8, 8]])}, {"threshold": 0.0})["scores"].tolist() == [[1.0]]


def test_wrong_threshold_fails_alone(tmp_path: Path) -> None:
    part = detection_part(tmp_path, {"scores": "softmax", "top": None}, 4)
    asked = {**drawn(20, 5, 7), "image_size": np.array([[30, 40]])}
    outcomes = part.execute([part.request(asked, {"threshold": value}) for value in ("0.1", "much")])
    assert isinstance(outcomes[0], dict) and "'threshold' should be of kind float" in str(outcomes[1])


class Halved(transformers.OwlViTImageProcessorPil):  # type: ignore[misc, name-defined]
    """A processor with a step of its own."""

    def post_process_object_detection(self, *arguments: Any, **others: Any) -> Any:
        (made,) = super().post_process_object_detection(*arguments, **others)
        return [{**made, "boxes": made["boxes"] / 2}]


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        (Halved, "Halved makes other boxes than light code"),
        (transformers.ViTImageProcessorPil, "has no post_process_object_detection"),
    ],
)
def test_processor_with_steps_of_its_own_is_refused_with_the_reason(processor: Any, reason: str) -> None:
    with pytest.raises(CannotSplit, match=reason):
        detection.detection_settings(processor())


def test_classes_that_are_left_out_are_refused() -> None:
    assert detection.class_names(SimpleNamespace(id2label={1: "dog", 0: "cat"})) == ["cat", "dog"]
    with pytest.raises(CannotSplit, match="id2label leaves classes out"):
        detection.class_names(SimpleNamespace(id2label={0: "cat", 2: "dog"}))
