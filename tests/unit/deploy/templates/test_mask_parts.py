"""The light parts of mask-generation find the masks that transformers' pipeline finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.reference import Reference
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, PythonPart, Split
from conch.deploy.split.subject import Subject
from conch.errors import BackendError, Code
from tests.checkpoints.samples import image
from tests.unit.deploy import stand_in
from tests.unit.deploy.conftest import plan_of
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import encoded, file_rows, load_part

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
mask_generation = pytest.importorskip("conch.deploy.split.mask_generation")

FEW = {"points_per_crop": 4}
OUTPUTS = {"masks": "TYPE_UINT8 -1 -1 -1", "scores": "TYPE_FP32 -1", "json": "TYPE_STRING 1"}


class Ensemble:
    """The parts of a split, the networks run by torch; sees how many points each batch had."""

    def __init__(self, subject: Subject, split: Split, directory: Path) -> None:
        self.pipe, self.points = subject.pipe, list[int]()
        self.seeing = split.part("encoder").network.module  # type: ignore[attr-defined]
        self.drawing = split.part("decoder").network.module  # type: ignore[attr-defined]
        apart = {"rows_apart": "TYPE_STRING 1"}
        pixels = {"pixel_values": "TYPE_FP32 3 64 64", "image_size": "TYPE_INT64 2"}
        seen = {"image_embeddings": "TYPE_FP32 16 8 8", "image_size": "TYPE_INT64 2"}
        more = {"network": "sam_encoder", "network_inputs": "pixel_values", "network_outputs": "image_embeddings"}
        self.before = _loaded(split, "preprocess", directory, {"image": "TYPE_STRING 1"}, {**pixels, **apart}, more)
        self.after = _loaded(split, "postprocess", directory, {**seen, **apart}, OUTPUTS, more)

    def see(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {"image_embeddings": self.seeing(torch.from_numpy(inputs["pixel_values"]))[0].numpy()}

    def draw(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.points.append(inputs["input_points"].shape[1])
        with torch.inference_mode():
            arrays = (torch.from_numpy(inputs[name]) for name in ("image_embeddings", "input_points"))
            masks, scores = self.drawing(*arrays)
        return {"pred_masks": masks.numpy(), "iou_scores": scores.numpy()}

    def ask(self, *images: Any, **parameters: Any) -> dict[str, np.ndarray]:
        made = self.before.ask({"image": file_rows(*map(encoded, images))}, parameters)
        seen = self.see({"pixel_values": made.pop("pixel_values")})
        return self.after.ask({**seen, **made}, parameters)


def _loaded(split: Split, suffix: str, directory: Path, inputs: Any, outputs: Any, more: dict[str, str]) -> LocalModel:
    part = split.part(suffix)
    assert isinstance(part, PythonPart)
    settings = {key: value for key, value, _ in part.settings} | more
    return load_part(directory, part.template, inputs, outputs, settings, part.contents)


@pytest.fixture(scope="module")
def subject(checkpoint_of: Callable[[str], Path]) -> Subject:
    checkpoint = checkpoint_of("mask-generation")
    plan = plan_of("mask-generation", checkpoint)
    return Subject(plan, Reference(plan, checkpoint).pipe, Checkpoint(checkpoint, "sam"))


@pytest.fixture(scope="module")
def split(subject: Subject) -> Split:
    found: Split = mask_generation.mask_generation(subject)
    return found


@pytest.fixture
def ensemble(subject: Subject, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ensemble:
    ensemble = Ensemble(subject, split, tmp_path)
    monkeypatch.setitem(stand_in.NETWORKS, "sam_encoder", ensemble.see)
    monkeypatch.setitem(stand_in.NETWORKS, "mask-generation_decoder", ensemble.draw)
    return ensemble


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"crops_n_layers": 1},
        {"points_per_batch": 5, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.3, "crops_nms_thresh": 0.95},
        {"mask_threshold": 2.5, "stability_score_thresh": 0.0},
        {"pred_iou_thresh": 1e9},
    ],
)
def test_masks_are_those_of_the_pipeline(ensemble: Ensemble, parameters: dict[str, Any]) -> None:
    for picture in (image(48, 36), image(80, 100, seed=1)):
        expected = ensemble.pipe(picture, **FEW, **parameters)
        answer = ensemble.ask(picture, **FEW, **parameters)
        np.testing.assert_allclose(answer["scores"][0], np.asarray(expected["scores"]), atol=1e-6)
        want = np.array(expected["masks"], np.uint8).reshape(-1, picture.height, picture.width) * 255
        np.testing.assert_array_equal(answer["masks"][0], want)
        assert len(json.loads(answer["json"][0, 0])["masks"]) == len(want)
        assert bool(len(want)) == (parameters.get("pred_iou_thresh", 0) < 1e9)


def test_rows_of_a_request_are_answered_as_if_they_were_alone(ensemble: Ensemble) -> None:
    pictures = [image(48, 36), image(80, 100, seed=1)]
    together = ensemble.ask(*pictures, **FEW, crops_n_layers=1)
    for row, picture in enumerate(pictures):
        alone = ensemble.ask(picture, **FEW, crops_n_layers=1)
        count = alone["scores"].shape[1]
        cut = together["masks"][row, :count, : picture.height, : picture.width]
        np.testing.assert_array_equal(cut, alone["masks"][0])


def test_network_is_asked_for_as_many_points_at_once_as_the_request_says(ensemble: Ensemble) -> None:
    ensemble.ask(image(48, 36), **FEW, points_per_batch=6)
    assert ensemble.points == [6, 6, 4]
    ensemble.points.clear()
    ensemble.ask(image(48, 36), **FEW, points_per_batch="null")
    assert ensemble.points == [16]


def test_network_that_is_not_loaded_is_loaded(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "NOT_READY", {"mask-generation_decoder"})
    assert ensemble.ask(image(48, 36), **FEW)["masks"].shape[-2:] == (36, 48)


@pytest.mark.parametrize(
    ("parameter", "value"), [("points_per_crop", 0), ("points_per_batch", 0), ("crops_n_layers", -1)]
)
def test_parameter_that_makes_no_sense_is_refused(ensemble: Ensemble, parameter: str, value: int) -> None:
    with pytest.raises(BackendError, match=f"'{parameter}' should be of kind int.*, got {value}") as told:
        ensemble.ask(image(48, 36), **{**FEW, parameter: value})
    assert told.value.code is Code.INVALID_ARG


def test_processor_that_cuts_images_otherwise_is_refused(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light_module("light_crops"), "OVERLAP", 0.25)
    generate = subject.pipe.image_processor.generate_crop_boxes
    monkeypatch.setattr(
        subject.pipe.image_processor,
        "generate_crop_boxes",
        lambda image, longest, layers, overlap, side: generate(image, longest, layers, 0.3, side),
    )
    with pytest.raises(CannotSplit, match="SamImageProcessorPil cuts images otherwise than light code"):
        mask_generation.mask_generation(subject)


def test_pipeline_that_takes_other_masks_is_refused(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light_module("light_masks"), "STABILITY_OFFSET", 3)
    with pytest.raises(CannotSplit, match=r"SamImageProcessorPil finds \d+ masks of what is drawn, light code \d+"):
        mask_generation.mask_generation(subject)


def test_model_that_tells_more_of_an_image_is_refused(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject.pipe.model.config, "model_type", "sam_hq")
    with pytest.raises(CannotSplit, match="SamModel tells of an image more than one tensor"):
        mask_generation.mask_generation(subject)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (1200, 900)])
def test_enlarged_masks_are_those_of_torch(size: tuple[int, int]) -> None:
    masks, by_longest = light_module("light_masks"), light_module("light_image").by_longest
    drawn = np.random.default_rng(0).normal(0, 5, (40, 40)).astype(np.float32)
    high, wide = by_longest(size, 160)
    interpolate = torch.nn.functional.interpolate
    square = interpolate(torch.from_numpy(drawn)[None, None], (160, 160), mode="bilinear")[..., :high, :wide]
    want = interpolate(square, size, mode="bilinear")[0, 0].numpy()
    got = np.concatenate(list(masks.Enlarging((40, 40), (160, 160), size, 160)(drawn))).T
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "box"),
    [([(2, 1)], (2, 1, 2, 1)), ([(0, 3), (4, 1)], (0, 1, 4, 3)), ([], (0, 0, 0, 0))],
)
def test_mask_is_kept_as_its_runs(pixels: list[tuple[int, int]], box: tuple[int, ...]) -> None:
    masks = light_module("light_masks")
    drawn = np.zeros((5, 4), bool)
    for column, row in pixels:
        drawn[column, row] = True
    assert masks.box_of(drawn, (0, 0, 5, 4)) == box
    mask = masks.Mask(np.float32(1), box, (3, 2, 8, 6), masks.runs_of(drawn))
    whole = masks.pixels_of(mask, (7, 9))
    assert whole[2:6, 3:8].T.tolist() == drawn.tolist()
    assert whole.sum() == len(pixels)
