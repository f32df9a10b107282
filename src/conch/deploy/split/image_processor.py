"""From a checkpoint's image processor to what `process_image.py` needs, proved to give the same pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from conch.deploy.extras import require
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit
from conch.deploy.split.tokenizer import PartFiles

#: Width and height of the images that prove the settings: small, large, upright, square, narrow.
_PROBES = ((64, 48), (640, 480), (333, 500), (96, 96), (37, 301), (301, 41), (700, 33))
#: Largest difference of a pixel after normalisation.
_TOLERANCE = 1e-3
#: An image longer than that many times its other side may be more than a processor can do.
_NARROW = 4
#: How many times the square root of half a side ZoeDepth puts around an image.
_BORDER = 3

#: What a processor says beside pixels: where parts begin, which their pixels tell here, and in which words a network is
#: told the subtask, which others make tokens of.
_NO_PIXELS = frozenset({"patch_offsets", "task_inputs"})

_Settings = dict[str, Any]


def light_image_processor(processor: Any) -> PartFiles:
    """Settings and contents of a part that runs `process_image.py`.

    `processor` is the one transformers loads.

    Raises:
        CannotSplit: it does more than resize, crop, normalise and pad, or gives other pixels.
    """
    reasons = []
    for settings in _candidates(processor):
        reason = _difference(processor, settings)
        if not reason:
            return (), {"image_settings.json": json.dumps(settings, indent=1).encode()}
        reasons.append(reason)
    raise CannotSplit(f"{type(processor).__name__} {reasons[-1] if reasons else 'resizes in a way of its own'}")


def pixel_dims(settings: PartFiles) -> tuple[int, int, int]:
    """The dims of `pixel_values`, -1 where they depend on the image."""
    content = json.loads(settings[1]["image_settings.json"])
    size = content["pad"] or content["crop"]
    if not size and content["resize"] and content["resize"]["mode"] in ("exact", "square"):
        size = [content["resize"]["size"]["height"], content["resize"]["size"]["width"]]
    return (3, int(size[0]), int(size[1])) if size else (3, -1, -1)


def _candidates(processor: Any) -> Iterator[_Settings]:
    """What the processor may do, by its attributes; several classes give one attribute different meanings."""
    mean, std = _attribute(processor, "image_mean", [0.0]), _attribute(processor, "image_std", [1.0])
    common: _Settings = {
        "resample": int(_attribute(processor, "resample", 2)),
        "crop": _pair(processor, "crop_size") if getattr(processor, "do_center_crop", False) else None,
        "scale": float(processor.rescale_factor) if getattr(processor, "do_rescale", False) else 1.0,
        "offset": -1.0 if getattr(processor, "rescale_offset", False) else 0.0,
        "mean": mean if getattr(processor, "do_normalize", False) else [0.0],
        "std": std if getattr(processor, "do_normalize", False) else [1.0],
        "flip": bool(getattr(processor, "do_flip_channel_order", False)),
        "pad": _pair(processor, "pad_size") if getattr(processor, "do_pad", False) else None,
        "mask": "pixel_mask" in getattr(processor, "model_input_names", ()),
    }
    if getattr(processor, "do_split_image", False):
        common["split"] = dict(processor.size or {}).get("shortest_edge")
    if getattr(processor, "include_top", False):  # EfficientNet divides by it twice
        common["std"] = [value * value for value in common["std"]]
    if not getattr(processor, "do_resize", False):
        yield {"resize": None, **common}
        return
    size = {name: value for name, value in dict(processor.size or {}).items() if value}
    for resize, changed in _resizes(processor, size):
        yield {"resize": resize, **common, **changed}


def _resizes(processor: Any, size: dict[str, int]) -> Iterator[tuple[_Settings, _Settings]]:
    """Ways to resize, the plainest first, and what else they change."""
    shortest, longest = size.get("shortest_edge"), size.get("longest_edge")
    if shortest and longest:
        if getattr(processor, "do_pad", False):
            padded = {"pad": [shortest, longest], "black": True}
            yield {"mode": "bounded", "size": {**size, "multiple": 1}}, padded
        yield {"mode": "bounded", "size": {**size, "multiple": 1}}, {}
        yield {"mode": "bounded", "size": {**size, "multiple": 16}}, {}
        if divisor := getattr(processor, "size_divisor", None):
            yield {"mode": "bounded up", "size": {**size, "multiple": int(divisor)}}, {}
    elif shortest:
        yield {"mode": "shortest", "size": size}, {}
        yield {"mode": "shortest", "size": {"shortest_edge": int(256 / 224 * shortest)}}, {}
        if share := getattr(processor, "crop_pct", None):
            larger = {"mode": "shortest", "size": {"shortest_edge": int(shortest / share)}}
            yield larger, {}
            yield larger, {"crop": [shortest, shortest]}
            yield {"mode": "exact", "size": {"height": shortest, "width": shortest}}, {}
    elif longest:
        yield {"mode": "longest", "size": size}, {}
    elif "max_height" in size:
        yield {"mode": "within", "size": size}, {}
    elif "height" in size and "width" in size:
        if getattr(processor, "do_thumbnail", None) is not None:
            yield _thumbnail(processor, size)
        yield {"mode": "exact", "size": size}, {}
        if getattr(processor, "do_pad", False):
            yield {"mode": "square", "size": size}, {"pad": None}
        multiple = getattr(processor, "ensure_multiple_of", None)
        if multiple:
            exact = {**size, "multiple": multiple, "keep_ratio": bool(getattr(processor, "keep_aspect_ratio", False))}
            yield {"mode": "multiple", "size": exact}, {}
            border = _BORDER if getattr(processor, "do_pad", False) else 0
            yield {"mode": "multiple", "size": exact}, {"border": border, "pad": None}
        if (share := getattr(processor, "crop_pct", None)) and size["height"] == size["width"]:
            yield {"mode": "shortest", "size": {"shortest_edge": int(size["height"] / share)}}, {}
    if divisor := getattr(processor, "size_divisor", None):
        yield {"mode": "floor", "size": {"multiple": int(divisor)}}, {}


def _thumbnail(processor: Any, size: dict[str, int]) -> tuple[_Settings, _Settings]:
    """What Donut does: the shortest edge as long as it may be, then what fits, in the middle of a black page."""
    page = [size["height"], size["width"]]
    changed: _Settings = {"pad": page if getattr(processor, "do_pad", False) else None, "black": True, "centred": True}
    if processor.do_thumbnail:
        changed["thumbnail"] = page
    if getattr(processor, "do_align_long_axis", False):
        changed["turned"] = page
    return {"mode": "shortest", "size": {"shortest_edge": min(page)}}, changed


def _difference(processor: Any, settings: _Settings) -> str:
    """How the processor differs from light code with these settings, "" if it does not.

    Narrow images that the processor itself cannot process say nothing; all others have to agree.
    """
    image_module = require("PIL.Image", "pillow")
    random = np.random.default_rng(0)
    light = light_module("light_image").ImageProcessor(settings)
    for width, height in _PROBES:
        noise = random.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
        image = image_module.fromarray(noise).resize((width, height), image_module.Resampling.BICUBIC)
        try:
            expected = dict(processor(images=[image], return_tensors="np"))
        except Exception as error:
            if max(width, height) > _NARROW * min(width, height):
                continue
            return f"cannot process an image of {width} x {height}: {' '.join(str(error).split())}"
        made = {name: value for name, value in expected.items() if len(value)}
        known = {"pixel_values", "pixel_mask"} | (
            _NO_PIXELS if settings.get("split") else _NO_PIXELS - {"patch_offsets"}
        )
        if others := sorted(made.keys() - known):
            return f"makes {', '.join(others)}, which only transformers can make"
        try:
            got = light.parts(image)
        except (ValueError, ArithmeticError):  # settings that do not mean what light code takes them for
            return "resizes in a way of its own"
        if reason := _compare(made, got, f"{width} x {height}"):
            return reason
    return ""


def _compare(expected: dict[str, Any], parts: list[dict[str, np.ndarray]], size: str) -> str:
    for name in expected.keys() - _NO_PIXELS:
        array = np.asarray(expected[name])
        if len(array) != len(parts):
            return f"makes {len(array)} parts of {size} pixels, light code {len(parts)}"
        for want, got in zip(array, parts, strict=True):
            if name not in got or want.shape != got[name].shape:
                shape = list(got[name].shape) if name in got else "none"
                return f"makes {name} {list(want.shape)} of {size} pixels, light code {shape}"
            largest = float(np.abs(want.astype(np.float64) - got[name]).max())
            if not largest <= _TOLERANCE:
                return f"makes {name} that differ by {largest:.3g} from those of light code"
    return ""


def _attribute(processor: Any, name: str, default: Any) -> Any:
    value = getattr(processor, name, None)
    if value is None:
        return default
    return list(value) if isinstance(value, (tuple, list)) else value


def _pair(processor: Any, name: str) -> list[int] | None:
    """A size as [height, width]; None where the processor has none, or a shortest edge that makes a square."""
    size = {key: value for key, value in dict(getattr(processor, name, None) or {}).items() if value}
    if edge := size.get("shortest_edge"):
        return [edge, edge]
    return [size["height"], size["width"]] if "height" in size and "width" in size else None
