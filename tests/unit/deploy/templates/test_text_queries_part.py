"""The light part behind a detector that looks for texts finds what transformers' pipeline finds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conch.deploy.split.parts import DoesNotApply
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import load_part, text_rows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
detection = pytest.importorskip("conch.deploy.split.detection")
text_queries = pytest.importorskip("conch.deploy.split.text_queries")

PROCESSORS = ("OwlViTImageProcessorPil", "Owlv2ImageProcessorPil")
TEXTS = ("a cat", "Ünïcödé 東京", "a cat")
INPUTS = {
    "logits": "TYPE_FP32 -1 -1",
    "pred_boxes": "TYPE_FP32 -1 4",
    "image_size": "TYPE_INT64 2",
    "text": "TYPE_STRING -1",
}
OUTPUTS = {
    "boxes": "TYPE_INT32 -1 4",
    "scores": "TYPE_FP32 -1",
    "labels": "TYPE_STRING -1",
    "json": "TYPE_STRING 1",
}


def texts_part(directory: Path, processor: Any) -> LocalModel:
    contents = {"detection_settings.json": json.dumps(detection.detection_settings(processor)).encode()}
    values = {"task": "zero-shot-object-detection", "request_parameters": "threshold:float top_k:int"}
    return load_part(directory, "find_texts.py", INPUTS, OUTPUTS, values, contents)


def said(places: int, size: tuple[int, int], *texts: str, seed: int = 3) -> dict[str, np.ndarray]:
    """What a network might say of one image; the first place is nothing at all, the last two are equally good."""
    random = np.random.default_rng(seed)
    logits = random.normal(-3, 2, (1, places, len(texts))).astype(np.float32)
    logits[0, 0] = -200
    logits[0, -2:] = 1.5
    boxes = random.uniform(0, 1, (1, places, 4)).astype(np.float32)
    return {"logits": logits, "pred_boxes": boxes, "image_size": np.array([size]), "text": text_rows(texts)}


def by_the_pipeline(processor: Any, answer: dict[str, np.ndarray], **parameters: Any) -> list[dict[str, Any]]:
    """What transformers' own pipeline makes of it: its network was asked for one text at a time."""
    pipe = SimpleNamespace(image_processor=processor)
    kind = transformers.ZeroShotObjectDetectionPipeline
    pipe._get_bounding_box = lambda box: kind._get_bounding_box(pipe, box)
    outputs = [
        {
            "candidate_label": text.decode(),
            "target_size": torch.from_numpy(answer["image_size"]).int(),
            "logits": torch.from_numpy(answer["logits"][:, :, number : number + 1].copy()),
            "pred_boxes": torch.from_numpy(answer["pred_boxes"]),
        }
        for number, text in enumerate(answer["text"][0])
    ]
    made: list[dict[str, Any]] = kind.postprocess(pipe, outputs, **parameters)
    return made


@pytest.mark.parametrize("name", PROCESSORS)
def test_objects_are_those_of_the_pipeline(name: str, tmp_path: Path) -> None:
    processor = getattr(transformers, name)()
    part = texts_part(tmp_path, processor)
    for size in ((480, 640), (33, 21)):
        answer = said(60, size, *TEXTS)
        for parameters in ({}, {"threshold": 0.0}, {"threshold": -1.0}, {"threshold": 0.3, "top_k": 4}, {"top_k": 0}):
            expected, got = by_the_pipeline(processor, answer, **parameters), part.ask(answer, parameters)
            assert [label.decode() for label in got["labels"][0]] == [each["label"] for each in expected] != []
            assert got["boxes"][0].tolist() == [list(each["box"].values()) for each in expected]
            np.testing.assert_allclose(got["scores"][0], [each["score"] for each in expected], rtol=0, atol=1e-6)
            assert [list(each) for each in json.loads(got["json"][0, 0])] == [list(each) for each in expected]


def test_texts_that_only_pad_a_request_are_not_looked_for(tmp_path: Path) -> None:
    part = texts_part(tmp_path, transformers.OwlViTImageProcessorPil())
    answer = said(20, (30, 40), "a cat", "")
    found = part.ask(answer, {"threshold": 0.0})
    assert {*found["labels"][0]} == {b"a cat"}


def test_wrong_parameter_fails_alone(tmp_path: Path) -> None:
    part = texts_part(tmp_path, transformers.OwlViTImageProcessorPil())
    answer = said(20, (30, 40), "a cat")
    outcomes = part.execute([part.request(answer, {"top_k": value}) for value in ("3", "some")])
    assert isinstance(outcomes[0], dict) and "'top_k' should be of kind int" in str(outcomes[1])


def test_detector_that_reads_the_text_with_the_image_is_left_to_the_pipeline() -> None:
    subject: Any = SimpleNamespace(model=torch.nn.Linear(1, 1))
    with pytest.raises(DoesNotApply, match="takes one text at a time"):
        text_queries.zero_shot_object_detection(subject)
