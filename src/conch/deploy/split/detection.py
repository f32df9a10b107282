"""Splits of detectors of objects around which nothing needs transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from conch.deploy.split.generic import Captured
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, DoesNotApply, Split
from conch.deploy.split.sized_image import split_around
from conch.deploy.split.subject import Subject

#: Ways to make scores, the plainest first: settings of `light_detection`.
_WAYS: tuple[dict[str, Any], ...] = (
    {"scores": "softmax", "top": None},
    {"scores": "sigmoid", "top": "queries"},
    {"scores": "sigmoid", "top": 100},
    {"scores": "sigmoid", "top": 300},
    {"scores": "sigmoid", "top": None},
    {"scores": "sigmoid", "top": None, "square": True},
)
#: Queries and classes of the tensors that prove the settings: fewer and more pairs than any processor looks at.
_PROBES = ((5, 3), (60, 4), (130, 7), (340, 2))
_THRESHOLDS = (0.0, 0.3, 0.5, 0.95)
_SIZES = ((480, 640), (71, 33))
_SCORE_TOLERANCE, _PIXEL_TOLERANCE = 1e-6, 1e-3


def object_detection(subject: Subject) -> Split:
    processor = subject.pipe.image_processor
    if subject.pipe.tokenizer is not None:
        raise DoesNotApply("it reads words, and its boxes are theirs")
    settings = detection_settings(processor)
    labels = class_names(subject.model.config)
    contents = {"labels.json": _json(labels), "detection_settings.json": _json(settings)}
    fields = ("logits", "pred_boxes")
    return split_around(Captured(subject), fields, "find_objects.py", "names and places of the objects", contents)


def detection_settings(processor: Any) -> dict[str, Any]:
    """How light code makes the boxes that the processor makes.

    Raises:
        CannotSplit: it does not.
    """
    if not hasattr(processor, "post_process_object_detection"):
        raise CannotSplit(f"{type(processor).__name__} has no post_process_object_detection")
    for settings in _WAYS:
        if all(_agree(processor, settings, *probe) for probe in _probes()):
            return settings
    raise CannotSplit(f"{type(processor).__name__} makes other boxes than light code")


def class_names(config: Any) -> list[str]:
    """The names in the order of the classes.

    Raises:
        CannotSplit: classes are left out.
    """
    names = {int(number): name for number, name in config.id2label.items()}
    if sorted(names) != list(range(len(names))):
        raise CannotSplit("the checkpoint's id2label leaves classes out")
    return [names[number] for number in range(len(names))]


def _probes() -> Iterator[tuple[np.ndarray, np.ndarray, tuple[int, int], float]]:
    random = np.random.default_rng(0)
    for queries, classes in _PROBES:
        # No two scores are so close that rounding decides which is the better.
        logits = random.permutation(np.linspace(-6, 6, queries * classes, dtype=np.float32)).reshape(queries, classes)
        boxes = random.uniform(0, 1, (queries, 4)).astype(np.float32)
        for size in _SIZES:
            for threshold in _THRESHOLDS:
                yield logits, boxes, size, threshold


def _agree(
    processor: Any,
    settings: dict[str, Any],
    logits: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    threshold: float,
) -> bool:
    output = SimpleNamespace(logits=torch.from_numpy(logits)[None], pred_boxes=torch.from_numpy(boxes)[None])
    try:
        (expected,) = processor.post_process_object_detection(output, threshold, torch.tensor([size]).int())
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CannotSplit(f"{type(processor).__name__} needs more than logits and boxes: {reason}") from error
    got = light_module("light_detection").detect(logits, boxes, np.array(size), threshold, **settings)
    return (
        np.array_equal(expected["labels"].numpy(), got.classes)
        and np.allclose(expected["scores"].numpy(), got.scores, rtol=0, atol=_SCORE_TOLERANCE)
        and np.allclose(expected["boxes"].numpy(), got.boxes, rtol=0, atol=_PIXEL_TOLERANCE)
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
