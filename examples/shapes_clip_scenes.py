"""Scenes for the shapes-clip demo checkpoint: what they are, how they are drawn, how they are captioned.

A scene is one shape (colour x shape x size) on a plain background. Everything a caption does not say (position,
rotation, shade, lighting, noise) is jittered at drawing time, so no two drawings of one scene are alike.
"""

import colorsys
import itertools
import math
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]

# Colour name -> lowest and highest hue in degrees, lowest HSV value. Below that value yellow and orange turn to brown.
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (-6.0, 6.0, 0.7),
    "orange": (24.0, 39.0, 0.8),
    "yellow": (52.0, 62.0, 0.8),
    "green": (95.0, 145.0, 0.45),
    "blue": (212.0, 242.0, 0.6),
    "purple": (272.0, 302.0, 0.45),
}
# Background name -> darkest and lightest grey level, 0 to 1.
BACKGROUNDS: dict[str, tuple[float, float]] = {"white": (0.88, 1.0), "gray": (0.42, 0.6), "black": (0.0, 0.12)}
# Size name -> smallest and largest radius as a share of the picture's shorter side.
SIZES: dict[str, tuple[float, float]] = {"small": (0.15, 0.19), "large": (0.27, 0.37)}
MAX_ROTATION_DEGREES = 12.0
# How far a shape may lie from the middle, as a share of the room there is.
SPREAD = 0.25


def _ngon(radii: Sequence[float], start_degrees: float = -90.0) -> list[Point]:
    """Corners at equal angles around the origin, the first at `start_degrees` (-90 is up), `radii` away in turn."""
    angles = (math.radians(start_degrees + 360.0 * i / len(radii)) for i in range(len(radii)))
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _cross(arm: float = 0.3, reach: float = 0.95) -> list[Point]:
    """A plus sign: three corners of one arm, turned to the four sides."""
    corners = [(-arm, -reach), (arm, -reach), (arm, -arm)]
    for _ in range(3):
        corners += [(-y, x) for x, y in corners[-3:]]
    return corners


# Shape name -> outline around the origin, in units of the scene's radius, y pointing down.
OUTLINES: dict[str, list[Point]] = {
    "circle": _ngon([0.9] * 60),
    "square": _ngon([1.1] * 4, start_degrees=-45.0),
    "triangle": _ngon([1.1] * 3),
    "cross": _cross(),
}


@dataclass(frozen=True)
class Scene:
    """What a full caption says of a picture; every field is a key of the table of its name."""

    color: str
    shape: str
    size: str
    background: str


SCENES: tuple[Scene, ...] = tuple(Scene(*words) for words in itertools.product(COLORS, OUTLINES, SIZES, BACKGROUNDS))

FULL_CAPTION = "a {size} {color} {shape} on a {background} background"
# What a caption may say of a scene. Each format is one label set: its captions exclude one another.
CAPTION_FORMATS: tuple[str, ...] = (
    FULL_CAPTION,
    "a {size} {color} {shape}",
    "a {color} {shape} on a {background} background",
    "a {color} {shape}",
    "a {size} {shape}",
    "a {color} shape",
    "a {size} shape",
    "a {shape}",
    "a {background} background",
    "{color}",
    "{shape}",
)
# Sentences around a caption, transformers' default hypothesis template among them.
HYPOTHESIS_TEMPLATES: tuple[str, ...] = (
    "{}",
    "{}.",
    "a photo of {}",
    "a photo of {}.",
    "This is a photo of {}.",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}.",
)


def random_scene(rng: np.random.Generator) -> Scene:
    return SCENES[rng.integers(len(SCENES))]


def caption(scene: Scene, caption_format: str = FULL_CAPTION) -> str:
    """`caption_format` filled in, with "an" before "orange"."""
    return caption_format.format(**asdict(scene)).replace("a orange", "an orange")


def label_set(caption_format: str) -> list[str]:
    """Every distinct caption of one format: the candidate labels of a zero-shot classification."""
    return list(dict.fromkeys(caption(scene, caption_format) for scene in SCENES))


def facts_of(caption_format: str) -> list[str]:
    """Names of the `Scene` fields a format mentions."""
    return [field for _, field, _, _ in string.Formatter().parse(caption_format) if field]


def draw(scene: Scene, rng: np.random.Generator, width: int = 64, height: int | None = None) -> Image.Image:
    """Draw `scene` as an RGB picture of `width` x `height` (default: square), in the centre square CLIP crops to."""
    height = height or width
    side = min(width, height)
    radius = rng.uniform(*SIZES[scene.size]) * side
    room = SPREAD * max(0.0, side / 2 - 1.1 * radius)
    centre = (width / 2 + rng.uniform(-room, room), height / 2 + rng.uniform(-room, room))
    turn = math.radians(rng.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES))
    mask = _mask(OUTLINES[scene.shape], (width, height), centre, radius, turn)

    hue_low, hue_high, lowest_value = COLORS[scene.color]
    hue = rng.uniform(hue_low, hue_high) / 360 % 1.0
    ink = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.75, 1.0), rng.uniform(lowest_value, 1.0)))
    paper = np.full(3, rng.uniform(*BACKGROUNDS[scene.background]))

    pixels = paper + mask[..., None] * (ink - paper)
    across, down = rng.uniform(-0.06, 0.06, size=2)
    light = 1.0 + across * np.linspace(-1, 1, width) + down * np.linspace(-1, 1, height)[:, None]
    grain = rng.standard_normal((height, width, 3), dtype=np.float32) * rng.uniform(0.0, 0.04)
    pixels = np.clip(pixels * light[..., None] + grain, 0.0, 1.0)
    return Image.fromarray((pixels * 255).astype(np.uint8))


def _mask(
    outline: Sequence[Point], size: tuple[int, int], centre: Point, radius: float, turn: float, oversampling: int = 4
) -> np.ndarray:
    """Coverage of each pixel by the turned and scaled outline, [height, width] from 0 to 1; edges are smooth."""
    cos, sin = radius * math.cos(turn), radius * math.sin(turn)
    corners = [
        (oversampling * (centre[0] + cos * x - sin * y), oversampling * (centre[1] + sin * x + cos * y))
        for x, y in outline
    ]
    canvas = Image.new("L", (size[0] * oversampling, size[1] * oversampling))
    ImageDraw.Draw(canvas).polygon(corners, fill=255)
    return np.asarray(canvas.reduce(oversampling), dtype=np.float32) / 255
