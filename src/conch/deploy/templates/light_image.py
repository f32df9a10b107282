"""Images to the pixels a network takes, with Pillow and numpy alone: what transformers' image processors do.

`image_settings.json` beside model.py says what is done, in this order; null leaves a step out:

    turned    [height, width]: an image that lies where this stands, or the other way, is turned. Left out otherwise
    resize    {"mode": ..., "size": {...}}, the modes of `target_size`
    thumbnail [height, width]: an image that is larger is made smaller, its ratio kept. Left out otherwise
    resample  Pillow's number of the filter
    border    how wide a border is put around the image; `light_resize` resizes both then. Left out otherwise
    split     a longer image is cut into squares of that edge; left out otherwise
    crop      [height, width] cut from the middle; a smaller image gets a black frame
    scale, offset, mean, std    (pixel * scale + offset - mean) / std, mean and std by channel
    flip      true: blue, green, red
    pad       [height, width]; 0 is put below and on the right, or what becomes of black if `black` is true; on all
              sides if `centred` is true
    mask      true: `pixel_mask` says which pixels are not padding
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from light_resize import framed, resize_corners, resize_smooth
from PIL import Image

Size = tuple[int, int]  # height, width


class ImageProcessor:
    """Processes one image at a time; images of unequal size may give pixels of unequal size."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.resize = settings["resize"]
        self.resample: int = settings["resample"]
        self.crop: Size | None = settings["crop"]
        self.pad: Size | None = settings["pad"]
        self.mask: bool = settings["mask"]
        self.border: int | None = settings.get("border")
        self.black: bool = settings.get("black", False)
        self.split: int | None = settings.get("split")
        self.centred: bool = settings.get("centred", False)
        self.thumbnail: Size | None = settings.get("thumbnail")
        self.turned: Size | None = settings.get("turned")
        order = [2, 1, 0] if settings["flip"] else [0, 1, 2]
        std = np.broadcast_to(np.asarray(settings["std"], np.float64), 3)
        mean = np.broadcast_to(np.asarray(settings["mean"], np.float64), 3)
        self.order = order
        # One multiplication and one addition a pixel.
        self.factor = (settings["scale"] / std).astype(np.float32)
        self.shift = ((settings["offset"] - mean) / std).astype(np.float32)

    def __call__(self, image: Image.Image) -> dict[str, np.ndarray]:
        """`pixel_values` FP32 [3, height, width] of an RGB image, and `pixel_mask` INT64 [height, width]."""
        return self.finished(self.resized(image))

    def parts(self, image: Image.Image) -> list[dict[str, np.ndarray]]:
        """The same of each part that the image is cut into; most are of one."""
        pixels = self.resized(image)
        if not self.split:
            return [self.finished(pixels)]
        high, wide = pixels.shape[:2]
        places = [slice(start, start + self.split) for start in part_starts(max(high, wide), self.split)]
        return [self.finished(pixels[each] if high > wide else pixels[:, each]) for each in places]

    def finished(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        if self.crop:
            pixels = center_crop(pixels, *self.crop)
        height, width = pixels.shape[:2]
        values = np.zeros((3, *(self.pad or (height, width))), np.float32)
        if self.black:
            values += self.shift[:, None, None]
        top, left = [
            (whole - size) // 2 * self.centred for whole, size in zip(values.shape[1:], (height, width), strict=True)
        ]
        for channel, source in enumerate(self.order):
            target = values[channel, top : top + height, left : left + width]
            np.multiply(pixels[:, :, source], self.factor[channel], out=target, casting="unsafe")
            target += self.shift[channel]
        result = {"pixel_values": values}
        if self.mask:
            result["pixel_mask"] = np.zeros(values.shape[1:], np.int64)
            result["pixel_mask"][:height, :width] = 1
        return result

    def resized(self, image: Image.Image) -> np.ndarray:
        """Pixels [height, width, channels]."""
        if self.border is not None:
            pixels = framed(np.asarray(image), self.border)
            return resize_corners(pixels, *target_size(pixels.shape[:2], **self.resize))
        if self.turned and {lies(self.turned), lies((image.height, image.width))} == {True, False}:
            image = image.transpose(Image.Transpose.ROTATE_270)
        if self.resize:
            height, width = target_size((image.height, image.width), **self.resize)
            if self.resize["mode"] == "square":
                return resize_smooth(np.asarray(image), height, width)
            if (height, width) != (image.height, image.width):
                image = image.resize((width, height), self.resample)
        if self.thumbnail:
            height, width = by_thumbnail((image.height, image.width), self.thumbnail)
            if (height, width) != (image.height, image.width):
                image = image.resize((width, height), self.resample)
        return np.asarray(image)


def part_starts(longer: int, edge: int) -> list[int]:
    """Where squares of that edge begin that cover a longer edge and overlap alike."""
    count = math.ceil(longer / edge)
    overlap = (count * edge - longer) / (count - 1) if count > 1 else 0
    return [int(number * (edge - overlap)) for number in range(count)]


def target_size(image: Size, mode: str, size: dict[str, Any]) -> Size:
    """Height and width after resizing.

    Modes: "exact" (height, width); "square" (the same, of a black square that the image lies on: `light_resize` makes
    it); "shortest" (shortest_edge); "longest" (longest_edge); "bounded" (shortest_edge, but no edge longer than
    longest_edge, rounded down to a multiple); "bounded up" (the same, rounded up); "within" (max_height, max_width);
    "multiple" (height, width, multiple, keep_ratio); "floor" (rounded down to a multiple).
    """
    if mode in ("exact", "square"):
        return size["height"], size["width"]
    if mode == "shortest":
        return by_shortest(image, size["shortest_edge"])
    if mode == "longest":
        return by_longest(image, size["longest_edge"])
    if mode in ("bounded", "bounded up"):
        height, width = by_bounds(image, size["shortest_edge"], size["longest_edge"])
        multiple = size["multiple"]
        more = multiple - 1 if mode == "bounded up" else 0
        return (height + more) // multiple * multiple, (width + more) // multiple * multiple
    if mode == "multiple":
        return by_multiple(image, **size)
    height, width = image
    if mode == "floor":
        return height - height % size["multiple"], width - width % size["multiple"]
    scale = min(size["max_height"] / height, size["max_width"] / width)
    return int(height * scale), int(width * scale)


def by_shortest(image: Size, edge: int) -> Size:
    """The shortest edge becomes `edge`, the other follows."""
    height, width = image
    if width <= height:
        return int(edge * height / width), edge
    return edge, int(edge * width / height)


def by_longest(image: Size, edge: int) -> Size:
    """The longest edge becomes `edge`, the other follows, rounded."""
    scale = edge / max(image)
    return int(image[0] * scale + 0.5), int(image[1] * scale + 0.5)


def by_thumbnail(image: Size, within: Size) -> Size:
    """No edge longer than `within`; the longer edge says how the other follows."""
    height, width = min(image[0], within[0]), min(image[1], within[1])
    if (height, width) == image:
        return image
    if image[0] > image[1]:
        return height, int(image[1] * height / image[0])
    return (int(image[0] * width / image[1]) if image[1] > image[0] else height), width


def lies(size: Size) -> bool | None:
    """Whether it is wider than high; None for a square."""
    return None if size[0] == size[1] else size[1] > size[0]


def by_bounds(image: Size, shortest: int, longest: int) -> Size:
    """The shortest edge becomes `shortest` unless the other were longer than `longest` then."""
    height, width = image
    low, high = float(min(image)), float(max(image))
    exact: float = shortest
    if high / low * shortest > longest:
        exact = longest * low / high
        shortest = round(exact)
    if min(image) == shortest:
        return image
    if width < height:
        return int(exact * height / width), shortest
    return shortest, int(exact * width / height)


def by_multiple(image: Size, height: int, width: int, multiple: float, keep_ratio: bool) -> Size:
    """To about height and width, as multiples; `keep_ratio` scales both edges alike, as little as possible."""
    scales = [height / image[0], width / image[1]]
    if keep_ratio:
        scales = [min(scales, key=lambda scale: abs(1 - scale))] * 2
    sizes = [scale * edge for scale, edge in zip(scales, image, strict=True)]
    return int(round(sizes[0] / multiple) * multiple), int(round(sizes[1] / multiple) * multiple)


def center_crop(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of pixels [height, width, channels]; what they lack is black."""
    missing = [max(0, wanted - size) for wanted, size in zip((height, width), pixels.shape, strict=False)]
    if any(missing):
        before = [math.ceil(each / 2) for each in missing]
        framed = np.zeros((pixels.shape[0] + missing[0], pixels.shape[1] + missing[1], pixels.shape[2]), pixels.dtype)
        framed[before[0] : before[0] + pixels.shape[0], before[1] : before[1] + pixels.shape[1]] = pixels
        # Where the middle lies is counted in the image without its frame.
        top = (pixels.shape[0] - height) // 2 + before[0]
        left = (pixels.shape[1] - width) // 2 + before[1]
        pixels = framed
    else:
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]
