"""The split of networks that see a long image in parts (EoMT of semantic segmentation), without transformers around it.

The parts of an image are rows of the network; the postprocess puts what it says of them together.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from conch.deploy.extras import require
from conch.deploy.split.detection import class_names
from conch.deploy.split.heads import Fields, Keyword
from conch.deploy.split.image import core_part, image_part, network_of, pixel_inputs
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, DoesNotApply, Split
from conch.deploy.split.sized_image import IMAGE_SIZE
from conch.deploy.split.stages import python_part
from conch.deploy.split.subject import Subject, constants
from conch.deploy.split.traced import Traced
from conch.deploy.split.traced_sizes import followed_sizes

_FIELDS = ("class_queries_logits", "masks_queries_logits")
#: Height and width of the images that prove how parts are put together.
_PROBES = ((60, 90), (130, 47), (50, 50))
_QUERIES, _CLASSES, _DRAWN = 6, 5, (24, 24)
#: Rounding decides where two classes are as good.
_PIXEL_SHARE = 1e-3


def image_segmentation(subject: Subject) -> Split:
    processor = subject.pipe.image_processor
    name = type(processor).__name__
    if not getattr(processor, "do_split_image", False):
        raise DoesNotApply(f"{name} does not cut images into parts")
    size = dict(processor.size)
    edge = size.get("shortest_edge")
    if not edge or size.get("longest_edge"):
        raise CannotSplit(f"{name} cuts images whose shortest edge is not always the same")
    settings = dict(zip(("classes", "masks"), _FIELDS, strict=True)) | {"split": int(edge)}
    _check(processor, settings)
    inputs, samples = pixel_inputs(processor, subject.model)
    names = [spec.name for spec in inputs]
    module = Fields(Traced(Keyword(subject.model, names, constants(subject.model)), followed_sizes), _FIELDS)
    core = core_part(network_of(module, inputs, _FIELDS, samples))
    rows = ("unpadded", " ".join(names), "outputs of which all rows of a request have one size")
    preprocess = image_part(subject, (*inputs, IMAGE_SIZE), settings=(rows,))
    contents = {
        "labels.json": json.dumps(class_names(subject.model.config), ensure_ascii=False).encode(),
        "segmentation_settings.json": json.dumps(settings).encode(),
    }
    postprocess = python_part(
        subject,
        "postprocess",
        "find_segments.py",
        (*core.outputs, IMAGE_SIZE),
        subject.plan.outputs,
        summary="which pixels belong to what",
        files=((), contents),
    )
    return Split((preprocess, core, postprocess))


def _check(processor: Any, settings: dict[str, Any]) -> None:
    """Raise CannotSplit if the processor puts parts together otherwise than light code."""
    light, image_module = light_module("light_segmentation"), require("PIL.Image", "pillow")
    random = np.random.default_rng(0)
    for height, width in _PROBES:
        offsets = processor(images=[image_module.new("RGB", (width, height))])["patch_offsets"]
        said = {
            _FIELDS[0]: random.normal(0, 3, (len(offsets), _QUERIES, _CLASSES + 1)).astype(np.float32),
            _FIELDS[1]: random.normal(0, 3, (len(offsets), _QUERIES, *_DRAWN)).astype(np.float32),
        }
        output = SimpleNamespace(**{key: torch.from_numpy(array) for key, array in said.items()})
        output.patch_offsets = offsets
        (want,) = processor.post_process_semantic_segmentation(output, target_sizes=[(height, width)])
        parts = [{key: array[number] for key, array in said.items()} for number in range(len(offsets))]
        got = np.full((height, width), -1)
        for each in light.find_parts(parts, height, width, "semantic", light.Limits(0, 0, 0), **settings):
            got[each.mask] = each.kind
        if (share := np.mean(got != want.numpy())) > _PIXEL_SHARE:
            name = type(processor).__name__
            raise CannotSplit(f"{name} puts parts of images together otherwise than light code: {share:.2%} of pixels")
