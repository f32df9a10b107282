"""The light part behind a network of image-segmentation makes the segments that transformers' processors make."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import load_part

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
segmentation = pytest.importorskip("conch.deploy.split.segmentation")

DETR = ("logits", "pred_masks")
MASK_FORMER = ("class_queries_logits", "masks_queries_logits")
QUERIES, CLASSES, SIZE = 9, 70, (61, 90)
WAYS: dict[str, tuple[tuple[str, str | None], dict[str, Any]]] = {
    "SegformerImageProcessorPil": (("logits", None), {"grid": None, "instances": "segments"}),
    "BeitImageProcessorPil": (("logits", None), {"grid": None, "instances": "segments"}),
    "MobileViTImageProcessorPil": (("logits", None), {"grid": None, "instances": "segments"}),
    "DPTImageProcessorPil": (("logits", None), {"grid": None, "instances": "segments"}),
    "DetrImageProcessorPil": (DETR, {"grid": None, "instances": "segments"}),
    "MaskFormerImageProcessorPil": (MASK_FORMER, {"grid": None, "instances": "pairs"}),
}
"""Processor -> the network's outputs it reads, and the settings that make its segments."""
OUTPUTS = {
    "masks": "TYPE_UINT8 -1 -1 -1",
    "scores": "TYPE_FP32 -1",
    "labels": "TYPE_STRING -1",
    "json": "TYPE_STRING 1",
}
PARAMETERS = "subtask:str threshold:float mask_threshold:float overlap_mask_area_threshold:float"


def shapes(fields: tuple[str, str | None]) -> dict[str, tuple[int, ...]]:
    classes, masks = fields
    return {classes: (QUERIES, CLASSES + 1), masks: (QUERIES, 20, 33)} if masks else {classes: (CLASSES, 20, 33)}


def said(fields: tuple[str, str | None], seed: int = 5) -> dict[str, np.ndarray]:
    """What a network might say of one image: every query is sure of something, the first of nothing."""
    random = np.random.default_rng(seed)
    drawn = {name: random.normal(0, 3, (1, *shape)).astype(np.float32) for name, shape in shapes(fields).items()}
    if fields[1]:
        kinds = [CLASSES, *random.integers(0, CLASSES, QUERIES - 1)]
        drawn[fields[0]][0, np.arange(QUERIES), kinds] += np.linspace(6, 14, QUERIES, dtype=np.float32)
    return drawn


def segmentation_part(directory: Path, fields: tuple[str, str | None], settings: Mapping[str, Any]) -> LocalModel:
    contents = {
        "labels.json": json.dumps([f"class {number}" for number in range(CLASSES)]).encode(),
        "segmentation_settings.json": json.dumps({"classes": fields[0], "masks": fields[1], **settings}).encode(),
    }
    inputs = {name: "TYPE_FP32 " + " ".join("-1" for _ in shape) for name, shape in shapes(fields).items()}
    values = {"task": "image-segmentation", "request_parameters": PARAMETERS}
    inputs["image_size"] = "TYPE_INT64 2"
    return load_part(directory, "find_segments.py", inputs, OUTPUTS, values, contents)


def by_the_pipeline(processor: Any, answer: Mapping[str, np.ndarray], **parameters: Any) -> list[dict[str, Any]]:
    """What transformers' own pipeline makes of it."""
    pipe = SimpleNamespace(image_processor=processor, model=None)
    names = {number: f"class {number}" for number in range(CLASSES)}
    pipe.model = SimpleNamespace(config=SimpleNamespace(id2label=names))
    output = transformers.utils.ModelOutput(**{name: torch.from_numpy(array) for name, array in answer.items()})
    output["target_size"] = [SIZE]
    made: list[dict[str, Any]] = transformers.ImageSegmentationPipeline.postprocess(pipe, output, **parameters)
    return made


@pytest.mark.parametrize("name", sorted(WAYS))
def test_segments_are_those_of_the_pipeline(name: str, tmp_path: Path) -> None:
    fields, settings = WAYS[name]
    processor = getattr(transformers, name)()
    found = segmentation.segmentation_settings(processor, shapes(fields), *fields)
    assert found == {"classes": fields[0], "masks": fields[1], **settings}

    part, answer = segmentation_part(tmp_path, fields, settings), said(fields)
    asked = {**answer, "image_size": np.array([SIZE])}
    calls: list[dict[str, Any]] = [{}, {"subtask": "semantic"}]
    if fields[1]:
        calls += [
            {"subtask": subtask, "threshold": threshold, "mask_threshold": 0.4, "overlap_mask_area_threshold": 0.2}
            for subtask in ("panoptic", "instance")
            for threshold in (0.1, 0.5)
        ]
    for parameters in calls:
        expected, got = by_the_pipeline(processor, answer, **parameters), part.ask(asked, parameters)
        assert [label.decode() for label in got["labels"][0]] == [each["label"] for each in expected]
        scores = [1.0 if each["score"] is None else each["score"] for each in expected]
        np.testing.assert_allclose(got["scores"][0], scores, rtol=0, atol=2e-6)
        masks = np.array([np.asarray(each["mask"]) for each in expected], np.uint8).reshape(-1, *SIZE)
        np.testing.assert_array_equal(got["masks"][0], masks)
    assert any(len(by_the_pipeline(processor, answer, **parameters)) > 1 for parameters in calls)


def test_json_is_what_the_pipeline_returns(tmp_path: Path) -> None:
    from PIL import Image

    part = segmentation_part(tmp_path, DETR, WAYS["DetrImageProcessorPil"][1])
    parameters = {"threshold": "0.5", "overlap_mask_area_threshold": "0.1"}
    got = part.ask({**said(DETR), "image_size": np.array([SIZE])}, parameters)
    entries = json.loads(got["json"][0, 0])
    assert [list(each) for each in entries] == [["score", "label", "mask"]] * len(got["labels"][0]) != []
    for entry, mask in zip(entries, got["masks"][0], strict=True):
        np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(entry["mask"]))), mask)


def test_image_without_a_segment_has_no_masks(tmp_path: Path) -> None:
    part = segmentation_part(tmp_path, DETR, WAYS["DetrImageProcessorPil"][1])
    got = part.ask({**said(DETR), "image_size": np.array([SIZE])}, {"threshold": 1.0})
    assert (got["masks"].shape, got["labels"].shape) == ((1, 0, *SIZE), (1, 0))
    assert got["json"][0, 0] == b"[]"


@pytest.mark.parametrize(
    ("fields", "parameters", "reason"),
    [
        (DETR, {"subtask": "depth"}, "'subtask' should be one of panoptic, instance, semantic, got 'depth'"),
        (("logits", None), {"subtask": "panoptic"}, "'subtask' should be one of semantic, got 'panoptic'"),
        (DETR, {"threshold": "much"}, "'threshold' should be of kind float"),
    ],
)
def test_wrong_parameter_fails_alone(
    fields: tuple[str, str | None], parameters: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    part = segmentation_part(tmp_path, fields, {"grid": None, "instances": "segments"})
    asked = {**said(fields), "image_size": np.array([SIZE])}
    fine, wrong = part.execute([part.request(asked, {}), part.request(asked, parameters)])
    assert isinstance(fine, dict) and reason in str(wrong)


def test_masks_of_mask2former_go_by_way_of_its_grid() -> None:
    """The settings alone: what a processor makes of 384 x 384 masks takes seconds."""
    processor, light = transformers.Mask2FormerImageProcessorPil(), light_module("light_segmentation")
    answer = said(MASK_FORMER)
    output = SimpleNamespace(**{name: torch.from_numpy(array) for name, array in answer.items()})
    limits = (0.5, 0.4, 0.2)
    names = ("threshold", "mask_threshold", "overlap_mask_area_threshold")
    (expected,) = processor.post_process_panoptic_segmentation(
        output, target_sizes=[SIZE], **dict(zip(names, limits, strict=True))
    )
    classes, masks = (answer[name][0] for name in MASK_FORMER)
    got = light.segments(classes, masks, *SIZE, light.Limits(*limits), [384, 384])
    assert [each.kind for each in got] == [each["label_id"] for each in expected["segments_info"]] != []
    for each, info in zip(got, expected["segments_info"], strict=True):
        assert each.score == pytest.approx(info["score"], abs=2e-6)
        np.testing.assert_array_equal(each.mask, expected["segmentation"].numpy() == info["id"])


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("EomtImageProcessorPil", MASK_FORMER, "makes other segments than light code"),
        ("DetrImageProcessorPil", ("logits", None), "reads masks of queries, which the network does not make"),
        ("ViTImageProcessorPil", ("logits", None), "has no post_process_semantic_segmentation"),
    ],
)
def test_processor_with_steps_of_its_own_is_refused_with_the_reason(
    name: str, fields: tuple[str, str | None], reason: str
) -> None:
    with pytest.raises(CannotSplit, match=reason):
        segmentation.segmentation_settings(getattr(transformers, name)(), shapes(fields), *fields)


def test_few_classes_leave_the_order_of_instances_to_transformers() -> None:
    """torch sorts the best pairs of query and class only if there are many classes: the order decides which one hides
    the other."""
    few = {"class_queries_logits": (QUERIES, 5), "masks_queries_logits": (QUERIES, 20, 33)}
    with pytest.raises(CannotSplit, match=r"makes other segments than light code: .*instance segmentation"):
        segmentation.segmentation_settings(transformers.MaskFormerImageProcessorPil(), few, *MASK_FORMER)


@pytest.mark.parametrize("sizes", [((20, 33), (61, 90)), ((90, 70), (75, 64)), ((5, 7), (5, 200)), ((1, 1), (2, 150))])
def test_maps_grow_and_shrink_as_torch_interpolates_them(sizes: Any) -> None:
    source, target = sizes
    values = np.random.default_rng(3).normal(0, 3, (4, *source)).astype(np.float32)
    light = light_module("light_resize")
    for mode, resize in (("bilinear", light.resize_bilinear), ("nearest", light.resize_nearest)):
        want = torch.nn.functional.interpolate(torch.from_numpy(values)[None], size=target, mode=mode)[0].numpy()
        np.testing.assert_allclose(resize(values, *target), want, rtol=0, atol=2e-6)
