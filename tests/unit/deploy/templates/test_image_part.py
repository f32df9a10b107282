"""The light image part gives the pixels of transformers' image processors."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.deploy.split.image_processor import light_image_processor, pixel_dims
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit
from conch.deploy.verify_parts import rows_apart
from tests.checkpoints import samples
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import encoded, file_rows, load_part

transformers = pytest.importorskip("transformers")
Image = pytest.importorskip("PIL.Image")

SIZES = ((64, 48), (37, 211), (300, 21), (224, 224), (511, 333))
# Processor and what it is made with.
PROCESSORS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("CLIPImageProcessorPil", {}),
    ("CLIPImageProcessorPil", {"size": {"shortest_edge": 96}, "crop_size": {"height": 128, "width": 80}}),
    ("DonutImageProcessorPil", {"size": {"height": 96, "width": 64}}),
    ("DonutImageProcessorPil", {"size": {"height": 64, "width": 96}, "do_align_long_axis": True}),
    ("DonutImageProcessorPil", {"size": {"height": 64, "width": 96}, "do_pad": False, "do_rescale": False}),
    ("SiglipImageProcessorPil", {}),
    ("ViTImageProcessorPil", {}),
    ("ViTImageProcessorPil", {"do_rescale": False, "do_normalize": False}),
    ("ViTImageProcessorPil", {"do_resize": False}),
    ("ViTImageProcessorPil", {"resample": 3, "do_center_crop": True, "crop_size": {"height": 200, "width": 240}}),
    ("BitImageProcessorPil", {}),
    ("ConvNextImageProcessorPil", {}),
    ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 224}}),
    ("DeiTImageProcessorPil", {}),
    ("LevitImageProcessorPil", {}),
    ("PoolFormerImageProcessorPil", {}),
    ("MobileViTImageProcessorPil", {}),
    ("EfficientNetImageProcessorPil", {}),
    ("EfficientNetImageProcessorPil", {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False}),
    ("DetrImageProcessorPil", {"size": {"shortest_edge": 90, "longest_edge": 160}}),
    ("DetrImageProcessorPil", {"do_pad": True, "pad_size": {"height": 1400, "width": 1400}}),
    ("YolosImageProcessorPil", {"size": {"shortest_edge": 90, "longest_edge": 160}}),
    ("RTDetrImageProcessorPil", {}),
    ("DPTImageProcessorPil", {"keep_aspect_ratio": True, "ensure_multiple_of": 32}),
    ("SegformerImageProcessorPil", {}),
    ("GLPNImageProcessorPil", {}),
    ("MaskFormerImageProcessorPil", {"size": {"shortest_edge": 90, "longest_edge": 160}}),
    ("Mask2FormerImageProcessorPil", {"size": {"height": 96, "width": 96}}),
    ("EomtImageProcessorPil", {"do_pad": True, "size": {"shortest_edge": 120, "longest_edge": 120}}),
    ("ZoeDepthImageProcessorPil", {"size": {"height": 64, "width": 96}, "ensure_multiple_of": 32}),
    ("ZoeDepthImageProcessorPil", {"size": {"height": 64, "width": 96}, "keep_aspect_ratio": False, "do_pad": False}),
    ("OwlViTImageProcessorPil", {"size": {"height": 96, "width": 80}}),
    ("Owlv2ImageProcessorPil", {"size": {"height": 96, "width": 96}}),
    ("Owlv2ImageProcessorPil", {"size": {"height": 300, "width": 60}}),
)


def image_part(directory: Path, processor: Any, **others: str) -> LocalModel:
    settings, contents = light_image_processor(processor)
    height, width = pixel_dims((settings, contents))[1:]
    outputs = {
        "pixel_values": f"TYPE_FP32 3 {height} {width}",
        "pixel_mask": "TYPE_INT64 -1 -1",
        "image_size": "TYPE_INT64 2",
        "activation": "TYPE_INT32 1",
    }
    values = {"task": "image-classification", "request_parameters": "top_k:int function_to_apply:str", **others}
    return load_part(directory, "process_image.py", {"image": "TYPE_STRING 1"}, outputs, values, contents)


def truth(processor: Any, image: Any) -> dict[str, np.ndarray]:
    made = processor(images=[image], return_tensors="np")
    return {name: np.asarray(value) for name, value in made.items() if len(value)}


@pytest.mark.parametrize(
    ("name", "options"), PROCESSORS, ids=[f"{name}{index}" for index, (name, _) in enumerate(PROCESSORS)]
)
def test_pixels_are_those_of_the_processor(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    processor = getattr(transformers, name)(**options)
    part = image_part(tmp_path, processor)
    for seed, (width, height) in enumerate(SIZES):
        if name.startswith(("GLPN", "Yolos")) and min(width, height) < 48:
            continue  # they round edges down, here to nothing
        image = samples.image(width, height, seed)
        got = part.ask({"image": file_rows(encoded(image))})
        for key, value in truth(processor, image).items():
            np.testing.assert_allclose(got[key], value, atol=1e-3, err_msg=f"{key} of {width} x {height}")
        assert got["image_size"].tolist() == [[height, width]]


@pytest.mark.parametrize("size", SIZES)
def test_parts_of_a_long_image_are_those_of_the_processor(tmp_path: Path, size: tuple[int, int]) -> None:
    processor = transformers.EomtImageProcessorPil(do_split_image=True, size={"shortest_edge": 40})
    _, contents = light_image_processor(processor)
    values = {"task": "image-segmentation", "unpadded": "pixel_values", "network_inputs": "pixel_values"}
    outputs = {"pixel_values": "TYPE_FP32 3 40 40", "rows_apart": "TYPE_STRING 1"}
    part = load_part(tmp_path, "process_image.py", {"image": "TYPE_STRING 1"}, outputs, values, contents)
    image = samples.image(*size)
    got = part.ask({"image": file_rows(encoded(image))})
    rows = [got["pixel_values"][0], *(each["pixel_values"] for each in rows_apart(got["rows_apart"]))]
    np.testing.assert_allclose(rows, processor(images=[image], return_tensors="np")["pixel_values"], atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (1, 300), (960, 7), (961, 480)])
def test_squares_of_owlv2_are_resized_as_scipy_resizes_them(size: tuple[int, int]) -> None:
    """Images of one column, larger by one pixel, much smaller, of a border that is a mirror many times over."""
    processor = transformers.Owlv2ImageProcessorPil(do_normalize=False, size={"height": 96, "width": 200})
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8))
    want = processor(images=[image], return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    got = light_module("light_resize").resize_smooth(np.asarray(image), 96, 200) / 255
    np.testing.assert_allclose(got.transpose(2, 0, 1), want, rtol=0, atol=2e-6)


def as_file(image: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def odd_files() -> dict[str, bytes]:
    colour = samples.image(90, 61)
    deep = Image.fromarray((np.arange(90 * 61, dtype=np.uint32).reshape(61, 90) * 11 % 65536).astype(np.uint16))
    return {
        "jpeg": as_file(colour, "JPEG"),
        "grayscale": as_file(colour.convert("L"), "PNG"),
        "alpha": as_file(colour.convert("RGBA").rotate(20), "PNG"),
        "palette": as_file(colour.quantize(16), "GIF"),
        "bilevel": as_file(colour.convert("1"), "PNG"),
        "cmyk": as_file(colour.convert("CMYK"), "JPEG"),
        "sixteen bits": as_file(deep, "PNG"),
        "webp": as_file(colour, "WEBP"),
    }


@pytest.mark.parametrize("kind", sorted(odd_files()))
def test_files_of_every_kind_are_read_as_pipelines_read_them(tmp_path: Path, kind: str) -> None:
    from transformers.image_utils import load_image

    processor, data = transformers.ViTImageProcessorPil(), odd_files()[kind]
    got = image_part(tmp_path, processor).ask({"image": file_rows(data)})
    expected = truth(processor, load_image(Image.open(io.BytesIO(data))))
    np.testing.assert_allclose(got["pixel_values"], expected["pixel_values"], atol=1e-3)


def test_rows_of_unequal_size_are_padded_and_masked(tmp_path: Path) -> None:
    processor = transformers.DetrImageProcessorPil(size={"shortest_edge": 40, "longest_edge": 80})
    images = [samples.image(64, 48), samples.image(50, 90)]
    got = image_part(tmp_path, processor).ask({"image": file_rows(*map(encoded, images))})
    expected = processor(images=images, return_tensors="np")
    np.testing.assert_allclose(got["pixel_values"], expected["pixel_values"], atol=1e-3)
    np.testing.assert_array_equal(got["pixel_mask"], expected["pixel_mask"])


def test_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    processor, image = transformers.ViTImageProcessorPil(), samples.image(70, 40)
    part = image_part(tmp_path, processor)
    expected = part.ask({"image": file_rows(encoded(image))})["pixel_values"]
    for pixels in (np.asarray(image), np.asarray(image, np.float32)):
        np.testing.assert_array_equal(part.ask({"image": pixels[None]})["pixel_values"], expected)


def test_broken_image_fails_alone(tmp_path: Path) -> None:
    part = image_part(tmp_path, transformers.ViTImageProcessorPil())
    good, bad = {"image": file_rows(encoded(samples.image(40, 30)))}, {"image": file_rows(b"GIF89a")}
    outcomes = part.execute([part.request(each) for each in (good, bad, good)])
    assert "cannot decode the image: expected JPEG" in str(outcomes[1])
    assert isinstance(outcomes[0], dict) and isinstance(outcomes[2], dict)


TOLD = {"panoptic": [5, 1, 9], "instance": [5, 2, 9], "semantic": [5, 3, 9]}


def told_part(directory: Path) -> tuple[Any, LocalModel]:
    """OneFormer's processor and the part of an ensemble of it."""
    options = {"size": {"shortest_edge": 48, "longest_edge": 80}, "class_info_file": ""}
    processor = transformers.OneFormerImageProcessorPil(**options)
    _, contents = light_image_processor(processor)
    values = {"task": "image-segmentation", "request_parameters": "subtask:str threshold:float"}
    outputs = {"pixel_values": "TYPE_FP32 3 -1 -1", "task_inputs": "TYPE_INT64 3"}
    contents = {**contents, "subtask_tokens.json": json.dumps(TOLD).encode()}
    return processor, load_part(directory, "process_image.py", {"image": "TYPE_STRING 1"}, outputs, values, contents)


@pytest.mark.parametrize(("subtask", "tokens"), [(None, TOLD["panoptic"]), *TOLD.items()])
def test_network_is_told_the_subtask_of_the_request(subtask: str | None, tokens: list[int], tmp_path: Path) -> None:
    (processor, part), images = told_part(tmp_path), [samples.image(60, 40), samples.image(60, 40)]
    got = part.ask({"image": file_rows(*map(encoded, images))}, {"subtask": subtask} if subtask else {"threshold": 0.5})
    assert got["task_inputs"].tolist() == [tokens, tokens]
    expected = processor(images=images[:1], return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(got["pixel_values"][0], expected, rtol=0, atol=1e-5)


def test_unknown_subtask_fails_alone(tmp_path: Path) -> None:
    _, part = told_part(tmp_path)
    image = {"image": file_rows(encoded(samples.image(40, 30)))}
    fine, wrong = part.execute([part.request(image, {}), part.request(image, {"subtask": "depth"})])
    assert isinstance(fine, dict)
    assert "'subtask' should be one of panoptic, instance, semantic, got 'depth'" in str(wrong)


def test_part_whose_neighbour_reads_the_parameters_refuses_none(tmp_path: Path) -> None:
    image = {"image": file_rows(encoded(samples.image(40, 30)))}
    part = image_part(tmp_path, transformers.ViTImageProcessorPil())
    assert "unknown request parameters" in str(part.execute([part.request(image, {"nonsense": 1})])[0])
    part = image_part(tmp_path, transformers.ViTImageProcessorPil(), reads_parameters="false")
    assert part.ask(image, {"nonsense": 1})["pixel_values"].shape == (1, 3, 224, 224)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("LlavaNextImageProcessorPil", {}, "makes image_sizes, which only transformers can make"),
        ("ViltImageProcessorPil", {}, "light code"),
        ("ZoeDepthImageProcessorPil", {"resample": 3}, "makes pixel_values that differ by"),
    ],
)
def test_processor_with_steps_of_its_own_is_refused_with_the_reason(
    name: str, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CannotSplit, match=reason):
        light_image_processor(getattr(transformers, name)(**options))


@pytest.mark.parametrize(
    "name",
    ["image-classification", "image-classification.convnext", "zero-shot-image-classification", "object-detection"],
)
def test_processors_of_checkpoints_need_no_transformers(checkpoint_of: Callable[[str], Path], name: str) -> None:
    processor = transformers.AutoImageProcessor.from_pretrained(checkpoint_of(name))
    assert list(light_image_processor(processor)[1]) == ["image_settings.json"]
