"""Splits of models that look for all things in an image (SAM), around whose networks nothing needs transformers.

The network that sees the image is called once a crop, the one that draws masks once a batch of points: a Python part
asks it as often as a request wants.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from torch import nn

from conch.deploy.extras import require
from conch.deploy.split.axes import answers
from conch.deploy.split.image import core_part, image_samples, network_of
from conch.deploy.split.image_processor import light_image_processor
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, CorePart, Split
from conch.deploy.split.sized_image import IMAGE_SIZE
from conch.deploy.split.stages import python_part
from conch.deploy.split.subject import Subject
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_PIXELS = "pixel_values"
_SEEN = "image_embeddings"
_POINTS = TensorSpec("input_points", DataType.FP32, (-1, 2), "x, y of points in the pixels that the network is given")
#: Rows and points of each batch that the network which draws is proved with; the first is exported with.
_DRAWN = ((2, 5), (3, 8), (1, 3))
#: Height and width of the images, layers of crops and points along a side that prove the crops.
_CROPPED = ((480, 640, 1, 4), (333, 500, 2, 3), (301, 41, 0, 7), (96, 96, 1, 1))
#: Of the images that prove the masks; each has one layer of crops.
_MASKED = ((90, 131), (60, 43))
_LIMITS = ((0.88, 0.95, 0.0, 0.7), (0.0, 0.5, 1.5, 0.3))
#: Of ONNX Runtime, for images of a thousand by a thousand pixels: it would plan its memory beside what the first run
#: took, for nothing (3.2 instead of 5.7 GB for SAM ViT-B's encoder, 2.2 instead of 3.6 for 64 points).
_NO_PLAN = ("enable_mem_pattern", "0", "plan no memory: it takes more than it gains for tensors as large as these")
_GIVEN_BACK = ("memory.enable_memory_arena_shrinkage", "cpu:0", "give memory back after each image")
_PIXEL_SHARE = 1e-3
_POINT_TOLERANCE = 1e-3


class Seeing(nn.Module):
    """Pixels [batch, 3, height, width] -> what the model sees [batch, channels, rows, columns]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.vision_encoder

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.encoder(pixel_values, return_dict=True).last_hidden_state.float(),)


class Drawing(nn.Module):
    """What the model sees, and points [batch, points, 2] -> masks [batch, points, some, height, width] of what is at
    each, and what the model thinks of them [batch, points, some]."""

    places: torch.Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.prompts, self.decoder = model.prompt_encoder, model.mask_decoder
        with torch.inference_mode():
            places = model.get_image_wide_positional_embeddings()
        self.register_buffer("places", places.clone())

    def forward(self, seen: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        each = points.unsqueeze(2)
        labels = torch.ones_like(each[..., 0], dtype=torch.int64)
        sparse, dense = self.prompts(input_points=each, input_labels=labels, input_boxes=None, input_masks=None)
        masks, scores = self.decoder(
            image_embeddings=seen,
            image_positional_embeddings=self.places.repeat(seen.shape[0], 1, 1, 1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return masks.float(), scores.float()


def mask_generation(subject: Subject) -> Split:
    pipe, model = subject.pipe, subject.model
    if getattr(model.config, "model_type", "") != "sam":
        raise CannotSplit(
            f"{type(model).__name__} tells of an image more than one tensor, or draws in a way of its own"
        )
    processor = pipe.image_processor
    longest = dict(processor.size).get("longest_edge")
    padded = dict(getattr(processor, "pad_size", None) or {})
    square = [int(padded.get(side) or 0) for side in ("height", "width")]
    if not longest or not all(square):
        raise CannotSplit(f"{type(processor).__name__} does not bring images of all sizes to one square")
    _check_crops(processor, longest)
    _check_masks(pipe, longest, square)
    _, contents = light_image_processor(_Pixels(processor))
    encoder, decoder = _networks(model, processor)
    rows = ("unpadded", _PIXELS, "outputs of which all rows of a request have one size")
    preprocess = python_part(
        subject,
        "preprocess",
        "process_crops.py",
        subject.plan.inputs,
        (*encoder.inputs, IMAGE_SIZE),
        summary="images and their crops to pixels",
        files=((rows,), contents),
    )
    settings = json.dumps({"longest": longest, "square": square}).encode()
    postprocess = python_part(
        subject,
        "postprocess",
        "find_masks.py",
        (*encoder.outputs, IMAGE_SIZE),
        subject.plan.outputs,
        summary="points, and which of the masks drawn there are things",
        files=(
            (("decoder", f"{subject.plan.name}_{decoder.suffix}", "who is asked for masks at points"),),
            {"masks_settings.json": settings},
        ),
    )
    return Split((preprocess, encoder, decoder, postprocess))


class _Pixels:
    """An image processor that says nothing but the pixels: what else it says is proved apart."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, **keywords: Any) -> dict[str, Any]:
        return {_PIXELS: self._processor(**keywords)[_PIXELS]}


def _networks(model: Any, processor: Any) -> tuple[CorePart, CorePart]:
    # Each image takes 3 GB of an engine at SAM ViT-B's size: no proof of three, and no batch that no request asked for.
    two, _, one = image_samples(processor, [_PIXELS])
    samples = [two, one]
    size = samples[0][_PIXELS].shape[1:]
    pixels = TensorSpec(_PIXELS, DataType.FP32, size, "the image as the network takes it")
    seeing = network_of(Seeing(model), (pixels,), (_SEEN,), samples)
    ((seen,),) = answers(seeing.module, [_PIXELS], samples[-1:])
    drawing = network_of(
        Drawing(model), (*seeing.outputs, _POINTS), ("pred_masks", "iou_scores"), list(_drawn(seen, size[1:]))
    )
    encoder = core_part(seeing, "encoder", "what is seen in an image")
    decoder = core_part(drawing, "decoder", "masks of what is at points of an image")
    return (
        replace(encoder, onnxruntime=(_NO_PLAN, _GIVEN_BACK), merges=False),
        replace(decoder, onnxruntime=(_NO_PLAN,), asked=True),
    )


def _drawn(seen: np.ndarray, size: Sequence[int]) -> Any:
    """Batches of points, of what was seen in one image, turned over for each row."""
    random = np.random.default_rng(0)
    turned = np.concatenate([seen, seen[..., ::-1], seen[..., ::-1, :]])
    for rows, points in _DRAWN:
        places = random.uniform(0, 1, (rows, points, 2)) * size[::-1]
        yield {_SEEN: np.ascontiguousarray(turned[:rows]), _POINTS.name: places.astype(np.float32)}


def _check_crops(processor: Any, longest: int) -> None:
    """Raise CannotSplit if the processor cuts images otherwise than light code, or puts points elsewhere."""
    image_module, crops = require("PIL.Image", "pillow"), light_module("light_crops")
    for height, width, layers, side in _CROPPED:
        image = image_module.new("RGB", (width, height))
        boxes, points, _, _ = processor.generate_crop_boxes(image, longest, layers, crops.OVERLAP, side)
        cut = crops.crop_boxes(height, width, layers)
        if not np.array_equal(boxes.numpy(), cut):
            raise CannotSplit(f"{type(processor).__name__} cuts images otherwise than light code")
        for number, (left, top, right, bottom) in enumerate(cut):
            got = crops.grid_points((bottom - top, right - left), longest, side)
            want = points[0, :, number].numpy()
            if want.shape != got.shape or not np.allclose(want, got, 0, _POINT_TOLERANCE):
                raise CannotSplit(f"{type(processor).__name__} looks at other points than light code")


def _check_masks(pipe: Any, longest: int, square: Sequence[int]) -> None:
    """Raise CannotSplit if the pipeline takes other masks than light code for things."""
    crops, masks = light_module("light_crops"), light_module("light_masks")
    name = type(pipe.image_processor).__name__
    random = np.random.default_rng(0)
    for image in _MASKED:
        boxes = crops.crop_boxes(*image, 1)
        said = [(_drawings(random), random.uniform(0.8, 1, (1, 3, 3)).astype(np.float32)) for _ in boxes]
        for *limits, overlap in _LIMITS:
            found = []
            for box, (drawn, scores) in zip(boxes, said, strict=True):
                enlarging = masks.Enlarging(drawn.shape[-2:], square, _size(box), longest)
                logits = drawn.reshape(-1, *drawn.shape[-2:])
                found += masks.find(logits, scores.reshape(-1), enlarging, box, image, masks.Limits(*limits))
            got = masks.best(found, overlap)
            want, sure = _by_the_pipeline(pipe, boxes, said, image, (*limits, overlap), longest)
            if len(want) != len(got) or not np.allclose(sure, [mask.score for mask in got], 0, 1e-6):
                raise CannotSplit(f"{name} finds {len(want)} masks of what is drawn, light code {len(got)}, or others")
            for mask, pixels in zip(got, want, strict=True):
                if (share := np.mean(masks.pixels_of(mask, image) != pixels)) > _PIXEL_SHARE:
                    raise CannotSplit(f"{name} makes masks of which {share:.2%} differ from those of light code")


def _drawings(random: np.random.Generator) -> np.ndarray:
    """Logits [1, 3, 3, 256, 256] of blots with edges more or less sharp."""
    coarse = random.normal(0, 1, (1, 3, 3, 4, 4)) + random.choice((-0.5, 0, 1.5), (1, 3, 3, 1, 1))
    fine: np.ndarray = np.kron(coarse, np.ones((64, 64))) * random.choice((1, 30), (1, 3, 3, 1, 1))
    return fine.astype(np.float32)


def _size(box: Sequence[int]) -> tuple[int, int]:
    left, top, right, bottom = box
    return bottom - top, right - left


def _by_the_pipeline(
    pipe: Any,
    boxes: Sequence[Sequence[int]],
    said: Sequence[tuple[np.ndarray, np.ndarray]],
    image: tuple[int, int],
    limits: Sequence[float],
    longest: int,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Masks and scores that the pipeline's own steps make of what the network says of each crop."""
    names = ("pred_iou_thresh", "stability_score_thresh", "mask_threshold")
    by_longest = light_module("light_image").by_longest
    model, outputs = pipe.model, []
    for number, (box, (drawn, scores)) in enumerate(zip(boxes, said, strict=True)):
        answer = {"pred_masks": torch.from_numpy(drawn), "iou_scores": torch.from_numpy(scores)}
        inputs: Mapping[str, Any] = {
            "input_boxes": torch.tensor([box], dtype=torch.float32),
            "is_last": number == len(boxes) - 1,
            "original_sizes": torch.tensor([_size(box)]),
            "reshaped_input_sizes": torch.tensor([by_longest(_size(box), longest)]),
            "full_image_size": torch.tensor(image),
        }
        model.forward = lambda answer=answer, **_: answer
        try:
            with torch.inference_mode():
                outputs.append(pipe._forward(dict(inputs), **dict(zip(names, limits, strict=False))))
        finally:
            del model.forward
    result = pipe.postprocess(outputs, crops_nms_thresh=limits[-1])
    return [np.asarray(mask) for mask in result["masks"]], np.asarray(result["scores"])
