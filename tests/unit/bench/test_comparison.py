from __future__ import annotations

import json

from conch.bench.comparison import Column, Figures, read_padding
from conch.bench.comparison_report import document, tell
from conch.bench.differences import OutputDifference
from conch.bench.figures import Setting
from conch.bench.processes import Memory
from conch.bench.stages import Stage, Walk


def column(label: str, throughput: float, walk: Walk | None, *apart: OutputDifference) -> Column:
    figures = Figures(Setting(concurrency=8), throughput, 10.0, 20.0, 0, "", 5.0, 0.5, 0.1, walk)
    return Column(label, 2.5, Memory(300_000_000, 200_000_000), (figures,), apart, (f"mend {label}",))


WHOLE = Walk((Stage("whole", "pipeline", 6.0, 4.0, 1.0),), 10.0, 0.0)
SPLIT = Walk((Stage("pre", "preprocess", 1.0, 0.0, 1.0), Stage("core", "core", 3.0, 0.0, 1.0)), 4.0, 0.0)
COLUMNS = [
    column("whole", 10.0, WHOLE),
    column(
        "split",
        25.0,
        SPLIT,
        OutputDifference("probs", 1e-6, 2e-6),
        OutputDifference("label", float("inf"), 1.0, "missing"),
    ),
]


def rows() -> list[list[str]]:
    return [line.split() for line in tell(COLUMNS).splitlines()]


def test_throughput_has_its_ratio_to_the_first_model() -> None:
    assert ["concurrency", "8:", "infer/s", "10.0", "25.0", "(2.50x)"] in rows()


def test_start_up_memory_and_latency_are_side_by_side() -> None:
    found = rows()
    assert ["start-up", "2.5", "s", "2.5", "s"] in found
    assert ["resident", "memory", "300", "MB", "300", "MB"] in found
    assert ["p99", "ms", "20.0", "20.0"] in found


def test_stages_are_shares_and_times() -> None:
    found = rows()
    assert ["queue", "40%", "4.00", "ms", "-"] in found
    assert ["core", "-", "75%", "3.00", "ms"] in found


def test_differences_and_advice_are_told() -> None:
    text = tell(COLUMNS)
    assert "largest difference of split from whole:" in text
    assert ["label", "inf", "1", "missing"] in rows()
    assert text.endswith("tune first:\n  whole: mend whole\n  split: mend split")


def test_json_is_strict_json() -> None:
    text = json.dumps(document(COLUMNS), allow_nan=False)
    split = json.loads(text)[1]
    assert split["differences"][1]["largest"] is None
    assert split["figures"][0]["stages"]["core"] == {"ms": 3.0, "share": 0.75}


def test_a_model_without_statistics_has_no_stages() -> None:
    text = tell([column("silent", 0.0, None)])
    assert "share of each stage" not in text


def test_padding_is_read_from_the_metrics() -> None:
    page = """# TYPE conch_padding_elements_total counter
conch_padding_elements_total{model="a",version="1",kind="real"} 60
conch_padding_elements_total{model="b",version="1",kind="real"} 15
conch_padding_elements_total{model="a",version="1",kind="padding"} 25
"""
    assert read_padding(page) == 0.25
    assert read_padding("nv_inference_count 3\n") == 0.0
