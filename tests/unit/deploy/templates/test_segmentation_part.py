"""The light part behind a network of image-segmentation makes the segments that transformers' processors make."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit
from tests import checkpoints
from tests.unit.deploy.conftest import Deployed
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import encoded, file_rows, load_part

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
segmentation = pytest.importorskip("conch.deploy.split.segmentation")
segmentation_parts = pytest.importorskip("conch.deploy.split.segmentation_parts")

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
    "OneFormerImageProcessorPil": (MASK_FORMER, {"grid": None, "instances": "shared", "smooth": True}),
    "EomtImageProcessorPil": (MASK_FORMER, {"grid": [72, 96], "instances": None, "inside": [72, 96]}),
}
"""Processor -> the network's outputs it reads, and the settings that make its segments."""
OPTIONS: dict[str, dict[str, Any]] = {
    "EomtImageProcessorPil": {"do_pad": True, "size": {"shortest_edge": 72, "longest_edge": 96}},
    "OneFormerImageProcessorPil": {"class_info_file": ""},
}
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
    output["target_size"], output["patch_offsets"] = [SIZE], []
    made: list[dict[str, Any]] = transformers.ImageSegmentationPipeline.postprocess(pipe, output, **parameters)
    return made


@pytest.mark.parametrize("name", sorted(WAYS))
def test_segments_are_those_of_the_pipeline(name: str, tmp_path: Path) -> None:
    fields, settings = WAYS[name]
    processor = getattr(transformers, name)(**OPTIONS.get(name, {}))
    light_module("hf_resize").complete_processor(processor)
    found = segmentation.segmentation_settings(processor, shapes(fields), *fields)
    assert found == {"classes": fields[0], "masks": fields[1], **settings}

    part, answer = segmentation_part(tmp_path, fields, settings), said(fields)
    asked = {**answer, "image_size": np.array([SIZE])}
    calls: list[dict[str, Any]] = [{}, {"subtask": "semantic"}]
    if fields[1]:
        calls += [
            {"subtask": subtask, "threshold": threshold, "mask_threshold": 0.4, "overlap_mask_area_threshold": 0.2}
            for subtask in (("panoptic", "instance") if settings["instances"] else ("panoptic",))
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
        (MASK_FORMER, {"subtask": "instance"}, "'subtask' should be one of panoptic, semantic, got 'instance'"),
        (DETR, {"threshold": "much"}, "'threshold' should be of kind float"),
    ],
)
def test_wrong_parameter_fails_alone(
    fields: tuple[str, str | None], parameters: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    part = segmentation_part(tmp_path, fields, {"grid": None, "instances": "segments" if fields == DETR else None})
    asked = {**said(fields), "image_size": np.array([SIZE])}
    fine, wrong = part.execute([part.request(asked, {}), part.request(asked, parameters)])
    assert isinstance(fine, dict) and reason in str(wrong)


def test_oneformer_brings_masks_to_the_size_of_the_image_without_torchvision() -> None:
    processor = transformers.OneFormerImageProcessorPil()
    light_module("hf_resize").complete_processor(processor)
    output = SimpleNamespace(**{name: torch.from_numpy(array) for name, array in said(MASK_FORMER).items()})
    made, same = (
        each.post_process_panoptic_segmentation(output, target_sizes=[SIZE], overlap_mask_area_threshold=0.2)[0]
        for each in (processor, transformers.MaskFormerImageProcessorPil())
    )
    assert [each["label_id"] for each in made["segments_info"]] == [each["label_id"] for each in same["segments_info"]]
    assert made["segments_info"] != []


def test_processor_that_cuts_images_into_parts_is_refused() -> None:
    processor = transformers.EomtImageProcessorPil(do_split_image=True, size={"shortest_edge": 96})
    with pytest.raises(CannotSplit, match="EomtImageProcessorPil cuts images into parts"):
        segmentation.segmentation_settings(processor, shapes(MASK_FORMER), *MASK_FORMER)


@pytest.mark.parametrize("edge", [32, 47])
def test_parts_of_images_are_put_together_as_the_processor_does(edge: int) -> None:
    processor = transformers.EomtImageProcessorPil(do_split_image=True, size={"shortest_edge": edge})
    settings = {"classes": MASK_FORMER[0], "masks": MASK_FORMER[1], "split": edge}
    segmentation_parts._check(processor, settings)
    processor.merge_image_patches = lambda logits, offsets, sizes, size: [torch.zeros(1, *sizes[0])]
    with pytest.raises(
        CannotSplit, match=r"EomtImageProcessorPil puts parts of images together otherwise .* of pixels"
    ):
        segmentation_parts._check(processor, settings)


def test_image_of_one_part_has_segments_too(tmp_path: Path) -> None:
    processor = transformers.EomtImageProcessorPil(do_split_image=True, size={"shortest_edge": 72})
    part, answer = segmentation_part(tmp_path, MASK_FORMER, {"split": 72}), said(MASK_FORMER)
    parameters = {"threshold": 0.5, "mask_threshold": 0.4, "overlap_mask_area_threshold": 0.2}
    output = SimpleNamespace(**{name: torch.from_numpy(array) for name, array in answer.items()})
    (expected,) = processor.post_process_panoptic_segmentation(output, target_sizes=[(61, 61)], **parameters)
    got = part.ask({**answer, "image_size": np.array([(61, 61)])}, parameters)
    kinds = [f"class {each['label_id']}".encode() for each in expected["segments_info"]]
    assert got["labels"][0].tolist() == kinds != []
    for mask, each in zip(got["masks"][0], expected["segments_info"], strict=True):
        np.testing.assert_array_equal(mask > 0, expected["segmentation"].numpy() == each["id"])


def test_parts_have_only_classes_of_pixels() -> None:
    light = light_module("light_segmentation")
    parts = [{name: array[0] for name, array in said(MASK_FORMER).items()}] * 2
    with pytest.raises(ValueError, match=r"the image is cut into 2 parts, .* 'subtask' should be semantic, got None"):
        light.find_parts(parts, *SIZE, None, light.Limits(0.9, 0.5, 0.5), *MASK_FORMER, 72)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, "does not cut images"), ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "shortest edge is not always")],
)
def test_processor_that_does_not_cut_images_to_squares_is_refused(options: dict[str, Any], reason: str) -> None:
    processor = transformers.EomtImageProcessorPil(do_split_image=bool(options), **options)
    with pytest.raises(CannotSplit, match=f"EomtImageProcessorPil .*{reason}"):
        segmentation_parts.image_segmentation(SimpleNamespace(pipe=SimpleNamespace(image_processor=processor)))


def test_pipeline_runs_the_parts_of_each_image_alone(deployed: Deployed, checkpoint_of: Callable[[str], Path]) -> None:
    name = "image-segmentation.eomt-semantic"
    expected = checkpoints.reference(name, checkpoint_of(name))
    images = [sample.args[0] for sample in checkpoints.sample_inputs(name)]
    got = deployed(name).ask({"image": file_rows(*map(encoded, images))}, {"subtask": "semantic"})
    for row, (image, segments) in enumerate(zip(images, expected, strict=True)):
        cut = got["masks"][row, : len(segments), : image.height, : image.width]
        np.testing.assert_array_equal(cut, np.stack([np.asarray(each["mask"]) for each in segments]))


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
        ("DetrImageProcessorPil", ("logits", None), "reads masks of queries, which the network does not make"),
        ("ViTImageProcessorPil", ("logits", None), "has no post_process_semantic_segmentation"),
    ],
)
def test_processor_with_steps_of_its_own_is_refused_with_the_reason(
    name: str, fields: tuple[str, str | None], reason: str
) -> None:
    with pytest.raises(CannotSplit, match=reason):
        segmentation.segmentation_settings(getattr(transformers, name)(), shapes(fields), *fields)


@pytest.mark.parametrize("classes", [1, 4, 63, 64])
def test_instances_of_few_classes_hide_each_other_in_the_order_of_torch(classes: int) -> None:
    """torch sorts the best pairs of query and class only if there are many classes."""
    processor = transformers.MaskFormerImageProcessorPil()
    sizes = {"class_queries_logits": (QUERIES, classes + 1), "masks_queries_logits": (QUERIES, 20, 33)}
    found = segmentation.segmentation_settings(processor, sizes, *MASK_FORMER)
    assert (found["grid"], found["instances"]) == (None, "pairs")


@pytest.mark.parametrize(("count", "classes"), [(1, 1), (1, 3), (2, 2), (7, 63), (100, 20), (119, 5), (100, 64)])
@pytest.mark.parametrize("digits", [9, 1])  # with one there are many that are equal
def test_largest_numbers_come_in_the_order_of_torch(count: int, classes: int, digits: int) -> None:
    light = light_module("light_select")
    for seed in range(5):
        values = np.random.default_rng(seed).normal(size=count * classes).round(digits).astype(np.float32)
        _, want = torch.from_numpy(values).topk(count, sorted=False)
        got = light.largest(values, count)
        if classes < light.SORTED_SHARE:
            np.testing.assert_array_equal(got, want)
        else:  # which of equal ones comes first is left open
            np.testing.assert_array_equal(values[got], values[want])


def test_numbers_that_are_made_to_be_hard_to_divide_are_sorted() -> None:
    """Each pivot is the second largest of what is left."""
    count, values = 60, np.zeros(120, np.float32)
    waiting = list(range(120))
    for rank in range(60):
        first, middle = waiting[0], waiting[len(waiting) // 2]
        values[waiting[1]], values[middle] = 1000 - 2 * rank, 999 - 2 * rank
        waiting[0], waiting[len(waiting) // 2] = waiting[len(waiting) // 2], first
        waiting = waiting[2:]
    got = light_module("light_select").largest(values, count)
    np.testing.assert_array_equal(np.sort(values[got]), np.sort(values)[-count:])


@pytest.mark.parametrize("sizes", [((20, 33), (61, 90)), ((90, 70), (75, 64)), ((5, 7), (5, 200)), ((1, 1), (2, 150))])
def test_maps_grow_and_shrink_as_torch_interpolates_them(sizes: Any) -> None:
    source, target = sizes
    values = np.random.default_rng(3).normal(0, 3, (4, *source)).astype(np.float32)
    light = light_module("light_resize")
    for mode, resize in (("bilinear", light.resize_bilinear), ("nearest", light.resize_nearest)):
        want = torch.nn.functional.interpolate(torch.from_numpy(values)[None], size=target, mode=mode)[0].numpy()
        np.testing.assert_allclose(resize(values, *target), want, rtol=0, atol=2e-6)
    want = torch.nn.functional.interpolate(torch.from_numpy(values)[None], size=target, mode="bilinear", antialias=True)
    smoothed = np.stack(list(light.rows_smoothed(values, *target)), axis=1)
    np.testing.assert_allclose(smoothed, want[0].numpy(), rtol=0, atol=4e-6)
