"""The light part behind a network that measures depth makes what transformers' processors and pipeline make of it."""

from __future__ import annotations

import json
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
depth = pytest.importorskip("conch.deploy.split.depth")

SIZES = (((37, 49), (480, 640)), ((120, 90), (33, 21)), ((64, 64), (64, 200)), ((3, 2), (50, 1)))


def depth_part(directory: Path, border: int) -> LocalModel:
    inputs = {"predicted_depth": "TYPE_FP32 -1 -1", "image_size": "TYPE_INT64 2"}
    outputs = {"depth": "TYPE_FP32 -1 -1", "depth_image": "TYPE_UINT8 -1 -1", "json": "TYPE_STRING 1"}
    contents = {"depth_settings.json": json.dumps({"border": border}).encode()}
    return load_part(directory, "measure_depth.py", inputs, outputs, {"task": "depth-estimation"}, contents)


@pytest.fixture
def part(tmp_path: Path) -> LocalModel:
    return depth_part(tmp_path, 0)


def zoe() -> Any:
    """A processor that takes its resizing from torchvision, completed where that is missing."""
    processor = transformers.ZoeDepthImageProcessorPil()
    light_module("hf_resize").complete_processor(processor)
    return processor


def asked(values: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    return {"predicted_depth": values[None], "image_size": np.array([size], np.int64)}


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_depth_is_that_of_the_processor(sizes: Any, part: LocalModel) -> None:
    source, target = sizes
    values = np.random.default_rng(1).uniform(0, 1, source).astype(np.float32)
    output = SimpleNamespace(predicted_depth=torch.from_numpy(values)[None])
    (expected,) = transformers.GLPNImageProcessorPil().post_process_depth_estimation(output, [target])
    got = part.ask(asked(values, target))
    want = expected["predicted_depth"].numpy()
    np.testing.assert_allclose(got["depth"][0], want, rtol=0, atol=1e-5)
    image = ((want - want.min()) / (want.max() - want.min()) * 255).astype(np.uint8)
    difference = np.abs(got["depth_image"][0].astype(int) - image)
    assert difference.max() <= 1 and difference.mean() < 1e-2  # a fraction is cut off: rounding may lie between
    np.testing.assert_allclose(json.loads(got["json"][0, 0])["predicted_depth"], want, rtol=0, atol=1e-5)


def test_plane_is_black(part: LocalModel) -> None:
    got = part.ask(asked(np.full((6, 8), 3.5, np.float32), (6, 8)))
    assert got["depth_image"].max() == 0
    np.testing.assert_allclose(got["depth"], 3.5, rtol=1e-6)


@pytest.mark.parametrize("name", ["DPTImageProcessorPil", "GLPNImageProcessorPil"])
def test_processors_that_interpolate_need_no_transformers(name: str) -> None:
    assert depth.border_of(getattr(transformers, name)()) == 0


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_border_that_zoedepth_puts_around_an_image_is_taken_away(sizes: Any, tmp_path: Path) -> None:
    source, target = sizes
    processor, values = zoe(), np.random.default_rng(1).uniform(0, 1, source).astype(np.float32)
    assert depth.border_of(processor) == 3
    output = SimpleNamespace(predicted_depth=torch.from_numpy(values)[None])
    (expected,) = processor.post_process_depth_estimation(output, [target])
    got = depth_part(tmp_path, 3).ask(asked(values, target))
    np.testing.assert_allclose(got["depth"][0], expected["predicted_depth"].numpy(), rtol=0, atol=1e-5)


def test_processor_with_steps_of_its_own_is_refused_with_the_reason() -> None:
    class Halving(transformers.GLPNImageProcessorPil):  # type: ignore[misc, name-defined]
        def post_process_depth_estimation(self, outputs: Any, target_sizes: Any = None) -> Any:
            (made,) = super().post_process_depth_estimation(outputs, target_sizes)
            return [{"predicted_depth": made["predicted_depth"] / 2}]

    with pytest.raises(CannotSplit, match="in a way of its own"):
        depth.border_of(Halving())
    with pytest.raises(CannotSplit, match="has no post_process_depth_estimation"):
        depth.border_of(transformers.ViTImageProcessorPil())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("GLPNImageProcessorPil", {}),  # heights and widths are rounded down to multiples of 32
        ("YolosImageProcessorPil", {"size": {"shortest_edge": 64, "longest_edge": 96}}),  # to multiples of 16
        ("MaskFormerImageProcessorPil", {"size": {"shortest_edge": 64, "longest_edge": 96}}),  # rounded up
    ],
)
def test_network_of_images_of_many_sizes_is_given_many(name: str, options: dict[str, Any]) -> None:
    image = pytest.importorskip("conch.deploy.split.image")
    (pixels, *_), samples = image.pixel_inputs(getattr(transformers, name)(**options), lambda pixel_values: None)
    assert pixels.dims == (3, -1, -1)
    assert len(samples) == 3
