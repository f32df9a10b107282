from __future__ import annotations

import io
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from conch.bench import plot
from conch.bench.figures import Latency, Measurement, Setting
from conch.errors import InvalidArgumentError, UnavailableError

SVG = "{http://www.w3.org/2000/svg}"


def measurement(setting: Setting, throughput: float, p50_ms: float) -> Measurement:
    return Measurement(setting, 5.0, 100, throughput, Latency(p50_ms, p50_ms, p50_ms, 2 * p50_ms, 3 * p50_ms))


SWEEP = [
    measurement(Setting(concurrency=1), 90.0, 10.0),
    measurement(Setting(concurrency=8), 170.0, 45.0),
    measurement(Setting(rate=50), 50.0, 12.0),
]


def test_svg_has_a_dot_for_each_percentile_of_each_setting() -> None:
    root = ElementTree.fromstring(plot.draw(Path("x.svg"), "m <1>", SWEEP))
    assert len(root.findall(f"{SVG}circle")) == 2 + 2 * len(SWEEP)  # and the legend's
    texts = [element.text for element in root.findall(f"{SVG}text")]
    assert texts[0] == "m <1>: latency against throughput"
    assert [texts.count(label) for label in ("1", "8", "50/s")] == [2, 2, 2]


def test_more_throughput_is_further_right_and_more_latency_further_up() -> None:
    root = ElementTree.fromstring(plot.draw(Path("x.svg"), "m", SWEEP))
    first, second = [
        (float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.findall(f"{SVG}circle") if dot.attrib["fill"]
    ][1:3]
    assert first[0] < second[0]
    assert first[1] > second[1]


def test_axes_end_at_round_numbers() -> None:
    root = ElementTree.fromstring(plot.draw(Path("x.svg"), "m", SWEEP))
    assert {"200", "100"} <= {element.text for element in root.findall(f"{SVG}text")}


def test_a_sweep_without_answers_can_be_drawn() -> None:
    nothing = Measurement(Setting(concurrency=1), 5.0, 0, 0.0, None, errors=3)
    assert plot.draw(Path("x.svg"), "m", [nothing]).startswith(b"<svg")


def test_png_is_drawn_with_pillow() -> None:
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(plot.draw(Path("x.png"), "m", SWEEP)))
    assert image.size == (1440, 880)
    assert len(image.getcolors(1 << 20)) > 5


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"expects a file that ends in .svg or .png"):
        plot.check_format(tmp_path / "x.pdf")
    with pytest.raises(InvalidArgumentError, match="there is no directory"):
        plot.check_format(tmp_path / "none" / "x.svg")


def test_png_without_pillow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UnavailableError, match=r"pip install pillow, or give a file ending in \.svg"):
        plot.check_format(tmp_path / "x.png")
