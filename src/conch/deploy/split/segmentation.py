"""Splits of networks that say which pixels belong to what, around which nothing needs transformers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from conch.deploy.samples import draw_image
from conch.deploy.split.detection import class_names
from conch.deploy.split.generic import Captured
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, Split
from conch.deploy.split.sized_image import SUBTASK_TOKENS, split_around
from conch.deploy.split.subject import Subject

#: Outputs of networks with queries: classes and masks.
_QUERIES = (("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks"))
_POSTPROCESSES = {
    "panoptic": "post_process_panoptic_segmentation",
    "instance": "post_process_instance_segmentation",
    "semantic": "post_process_semantic_segmentation",
}
#: What queries' masks are brought to first; all of transformers' processors that do so bring them to this size.
_GRID = [384, 384]
#: Height and width of what a network says, and of the images it is brought to: larger, smaller.
_PROBES = (((24, 32), (60, 90)), ((90, 70), (75, 64)))
_LIMIT_NAMES = ("threshold", "mask_threshold", "overlap_mask_area_threshold")
_LIMITS = ((0.0, 0.5, 0.0), (0.8, 0.3, 0.5))
#: Queries that are tried; each costs its masks.
_MOST_QUERIES = 12
#: Rounding decides where two classes are as good.
_PIXEL_SHARE = 1e-3
_SCORE_TOLERANCE = 3e-6


def image_segmentation(subject: Subject) -> Split:
    captured = Captured(subject)
    output = captured.calls[0][0].output
    classes, masks = next((pair for pair in _QUERIES if set(pair) <= set(output)), ("logits", None))
    if classes not in output:
        raise CannotSplit("the network says neither of pixels nor of queries which class they are")
    fields = [classes, masks] if masks else [classes]
    shapes = {name: tuple(output[name].shape[1:]) for name in fields}
    settings = segmentation_settings(subject.pipe.image_processor, shapes, classes, masks)
    contents = {
        "labels.json": json.dumps(class_names(subject.model.config), ensure_ascii=False).encode(),
        "segmentation_settings.json": json.dumps(settings).encode(),
    }
    words = subtask_tokens(captured)
    return split_around(captured, fields, "find_segments.py", "which pixels belong to what", contents, words)


def subtask_tokens(captured: Captured) -> dict[str, bytes]:
    """The file that tells `process_image.py` the tokens of each subtask, if the network reads them (OneFormer).

    The pipeline itself makes them: they follow from the subtask alone.
    """
    if SUBTASK_TOKENS not in captured.names:
        return {}
    pipe, image = captured.subject.pipe, draw_image(0)
    made = {each: pipe.preprocess(image, subtask=each)[SUBTASK_TOKENS][0].tolist() for each in _POSTPROCESSES}
    return {"subtask_tokens.json": json.dumps(made).encode()}


def segmentation_settings(
    processor: Any, shapes: Mapping[str, tuple[int, ...]], classes: str, masks: str | None
) -> dict[str, Any]:
    """How light code makes the segments that the processor makes.

    Args:
        shapes: of what the network says of one image: output -> sizes.
        classes, masks: which of these say what and where; no masks if the network says a class of each pixel.

    Raises:
        CannotSplit: it does not.
    """
    name = type(processor).__name__
    if absent := [method for method in _needed(masks) if not hasattr(processor, method)]:
        raise CannotSplit(f"{name} has no {', '.join(absent)}")
    if not masks and any(hasattr(processor, _POSTPROCESSES[each]) for each in ("panoptic", "instance")):
        raise CannotSplit(f"{name} reads masks of queries, which the network does not make")
    probes = list(_probes(shapes, masks, _subtasks(processor) if masks else ["semantic"]))
    reasons: dict[int, str] = {}
    for settings in _ways(processor, classes, masks):
        found = ((number, _difference(processor, settings, *probe)) for number, probe in enumerate(probes))
        number, reason = next((each for each in found if each[1]), (len(probes), ""))
        if not reason:
            return settings
        reasons[number] = reason
    if not reasons:
        raise CannotSplit(f"{name} cuts images into parts")
    raise CannotSplit(f"{name} makes other segments than light code: {reasons[max(reasons)]}")  # the nearest miss


def _needed(masks: str | None) -> list[str]:
    return list(_POSTPROCESSES.values()) if masks else [_POSTPROCESSES["semantic"]]


def _subtasks(processor: Any) -> list[str]:
    """Those that the pipeline can ask the processor for: EoMT's instances do not take all its limits."""
    found = []
    for subtask, method in _POSTPROCESSES.items():
        taken = inspect.signature(getattr(processor, method)).parameters
        if subtask == "semantic" or taken.keys() >= set(_LIMIT_NAMES):
            found.append(subtask)
    return found


def _ways(processor: Any, classes: str, masks: str | None) -> Iterator[dict[str, Any]]:
    """Settings of `light_segmentation`, the plainest first."""
    if masks and "instance" not in _subtasks(processor):
        edges = [dict(processor.size).get(name) for name in ("shortest_edge", "longest_edge")]
        if all(edges):
            yield {"classes": classes, "masks": masks, "grid": edges, "instances": None, "inside": edges}
        return
    for grid in (None, _GRID) if masks else (None,):
        for instances in ("segments", "pairs") if masks else ("segments",):
            yield {"classes": classes, "masks": masks, "grid": grid, "instances": instances}
    if masks:
        yield {"classes": classes, "masks": masks, "grid": None, "instances": "shared", "smooth": True}


def _probes(
    shapes: Mapping[str, tuple[int, ...]], masks: str | None, subtasks: Sequence[str]
) -> Iterator[tuple[dict[str, np.ndarray], tuple[int, int], str, tuple[float, float, float]]]:
    """What a network might say of an image, the image's size, a subtask, and limits."""
    random = np.random.default_rng(0)
    for (height, width), size in _PROBES:
        sizes = {name: (*shape[:-2], height, width) if len(shape) == 3 else shape for name, shape in shapes.items()}
        if masks:
            sizes = {name: (min(shape[0], _MOST_QUERIES), *shape[1:]) for name, shape in sizes.items()}
        said = {name: random.normal(0, 3, shape).astype(np.float32) for name, shape in sizes.items()}
        for each in said.values():
            if each.ndim == 2:  # most queries are sure of what they found, some of nothing
                each[np.arange(len(each)), random.integers(0, each.shape[1], len(each))] += 9
        for subtask in subtasks:
            for limits in _LIMITS[:1] if subtask == "semantic" else _LIMITS:
                yield said, size, subtask, limits


def _difference(
    processor: Any,
    settings: dict[str, Any],
    said: Mapping[str, np.ndarray],
    size: tuple[int, int],
    subtask: str,
    limits: tuple[float, float, float],
) -> str:
    """How the segments of the processor differ from those of light code; "" if they do not."""
    light = light_module("light_segmentation")
    got = light.find(said, *size, subtask, light.Limits(*limits), **settings)
    want = _segments(processor, said, size, subtask, limits)
    kinds = [each.kind for each in got]
    if kinds != [kind for kind, _, _ in want]:
        return f"{len(kinds)} of {subtask} segmentation instead of {len(want)}, or others"
    for each, (_, score, mask) in zip(got, want, strict=True):
        if (each.score is None) != (score is None) or abs((each.score or 0) - (score or 0)) > _SCORE_TOLERANCE:
            return f"a score of {each.score} of {subtask} segmentation instead of {score}"
        if (different := np.mean(each.mask != mask)) > _PIXEL_SHARE:
            return f"{different:.2%} of the pixels of a mask of {subtask} segmentation"
    return ""


def _segments(
    processor: Any,
    said: Mapping[str, np.ndarray],
    size: tuple[int, int],
    subtask: str,
    limits: tuple[float, float, float],
) -> list[tuple[int, float | None, np.ndarray]]:
    """Class, score and mask of each segment that the processor makes, as the pipeline asks it to."""
    output = SimpleNamespace(**{name: torch.from_numpy(array.copy())[None] for name, array in said.items()})
    output.patch_offsets = []
    postprocess = getattr(processor, _POSTPROCESSES[subtask])
    more = {} if subtask == "semantic" else dict(zip(_LIMIT_NAMES, limits, strict=True))
    try:
        (made,) = postprocess(output, target_sizes=[size], **more)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CannotSplit(f"{type(processor).__name__} needs more of the network than light code: {reason}") from error
    if subtask == "semantic":
        return [(int(kind), None, made.numpy() == kind) for kind in np.unique(made.numpy())]
    found = made["segmentation"].numpy()
    return [(each["label_id"], each["score"], found == each["id"]) for each in made["segments_info"]]
