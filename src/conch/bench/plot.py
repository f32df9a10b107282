"""Latency against throughput as a picture: SVG written here, PNG drawn by Pillow."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import msgspec

from conch.bench.figures import Latency, Measurement
from conch.errors import InvalidArgumentError, UnavailableError

_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 50, 60
_INK, _GRID = "#222222", "#dddddd"
#: Legend, colour, and which latency it shows.
_CURVES: tuple[tuple[str, str, Callable[[Latency], float]], ...] = (
    ("p50", "#1f77b4", lambda latency: latency.p50_ms),
    ("p99", "#d62728", lambda latency: latency.p99_ms),
)

Point = tuple[float, float]


class Line(msgspec.Struct, frozen=True):
    """A polyline in pixels."""

    points: tuple[Point, ...]
    colour: str
    width: int = 1


class Dot(msgspec.Struct, frozen=True):
    """A filled circle."""

    at: Point
    colour: str
    radius: int = 4


class Text(msgspec.Struct, frozen=True):
    """Text whose base line starts, is centred or ends at a point; `anchor` as in SVG."""

    at: Point
    text: str
    anchor: str = "middle"
    size: int = 12


Mark = Line | Dot | Text


def check_format(path: Path) -> None:
    """Refuse what cannot be drawn before anything is measured.

    Raises:
        InvalidArgumentError: neither .svg nor .png.
        UnavailableError: .png without Pillow.
    """
    if path.suffix not in (".svg", ".png"):
        raise InvalidArgumentError(f"--plot expects a file that ends in .svg or .png, got '{path}'")
    if not path.absolute().parent.is_dir():
        raise InvalidArgumentError(f"--plot: there is no directory '{path.parent}'")
    if path.suffix == ".png":
        _pillow("Image")


def draw(path: Path, title: str, measurements: Sequence[Measurement]) -> bytes:
    """The picture, in the format that the path's ending names."""
    marks = list(_marks(title, measurements))
    return _svg(marks).encode() if path.suffix == ".svg" else _png(marks)


def _marks(title: str, measurements: Sequence[Measurement]) -> Iterator[Mark]:
    measured = [(each, each.latency) for each in measurements if each.latency is not None]
    widest = _round_up(max((each.throughput for each, _ in measured), default=1.0))
    highest = _round_up(max((latency.p99_ms for _, latency in measured), default=1.0))

    def place(throughput: float, latency_ms: float) -> Point:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * throughput / widest
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * latency_ms / highest
        return round(x, 1), round(y, 1)

    yield Text((_WIDTH / 2, 22), f"{title}: latency against throughput", size=15)
    yield from _axes(place, widest, highest)
    for index, (name, colour, read) in enumerate(_CURVES):
        yield Dot((_LEFT + 20, _TOP + 12 + 18 * index), colour)
        yield Text((_LEFT + 30, _TOP + 16 + 18 * index), name, "start")
        for closed in (True, False):  # concurrencies and rates are curves of their own
            points = [
                (place(each.throughput, read(latency)), each.setting.label)
                for each, latency in measured
                if bool(each.setting.concurrency) == closed
            ]
            if len(points) > 1:
                yield Line(tuple(point for point, _ in points), colour, 2)
            for (x, y), label in points:
                yield Dot((x, y), colour)
                yield Text((x, y - 8), label, size=10)


def _axes(place: Callable[[float, float], Point], widest: float, highest: float) -> Iterator[Mark]:
    for step in range(6):
        throughput, latency = widest * step / 5, highest * step / 5
        x, bottom = place(throughput, 0)
        left, y = place(0, latency)
        yield Line(((x, bottom), place(throughput, highest)), _GRID)
        yield Line(((left, y), place(widest, latency)), _GRID)
        yield Text((x, bottom + 18), f"{throughput:g}")
        yield Text((left - 8, y + 4), f"{latency:g}", "end")
    yield Line((place(0, highest), place(0, 0), place(widest, 0)), _INK)
    yield Text((_WIDTH / 2, _HEIGHT - 16), "inferences a second (labels: concurrency or rate)")
    yield Text((8, _TOP - 12), "ms", "start")


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 x a power of ten."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999999)


def _svg(marks: Sequence[Mark]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for mark in marks:
        if isinstance(mark, Line):
            points = " ".join(f"{x:g},{y:g}" for x, y in mark.points)
            stroke = f'stroke="{mark.colour}" stroke-width="{mark.width}"'
            lines.append(f'<polyline points="{points}" fill="none" {stroke}/>')
        elif isinstance(mark, Dot):
            lines.append(f'<circle cx="{mark.at[0]:g}" cy="{mark.at[1]:g}" r="{mark.radius}" fill="{mark.colour}"/>')
        else:
            place = f'x="{mark.at[0]:g}" y="{mark.at[1]:g}" text-anchor="{mark.anchor}" font-size="{mark.size}"'
            lines.append(f'<text {place} fill="{_INK}">{escape(mark.text)}</text>')
    return "\n".join([*lines, "</svg>\n"])


def _png(marks: Sequence[Mark], scale: int = 2) -> bytes:
    image = _pillow("Image").new("RGB", (_WIDTH * scale, _HEIGHT * scale), "white")
    canvas, fonts = _pillow("ImageDraw").Draw(image), _pillow("ImageFont")
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for mark in marks:
        if isinstance(mark, Line):
            canvas.line([(x * scale, y * scale) for x, y in mark.points], mark.colour, mark.width * scale)
        elif isinstance(mark, Dot):
            canvas.circle((mark.at[0] * scale, mark.at[1] * scale), mark.radius * scale, fill=mark.colour)
        else:
            font = fonts.load_default(mark.size * scale)
            place = (mark.at[0] * scale, mark.at[1] * scale)
            canvas.text(place, mark.text, _INK, font=font, anchor=anchors[mark.anchor])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _pillow(name: str) -> Any:
    try:
        return importlib.import_module(f"PIL.{name}")
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "drawing a PNG needs Pillow: pip install pillow, or give a file ending in .svg"
        ) from error
