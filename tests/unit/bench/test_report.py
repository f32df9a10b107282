from __future__ import annotations

from conch.bench import report
from conch.bench.figures import Latency, Measurement, Setting
from conch.bench.statistics import ModelDelta

MS = 1_000_000
LATENCY = Latency(11.0, 10.0, 15.0, 123.4, 200.0)


def delta(model: str, queue_ms: int, infer_ms: int) -> ModelDelta:
    return ModelDelta(
        model, 100, 200, 50, 100 * (queue_ms + infer_ms) * MS, 100 * queue_ms * MS, 0, 100 * infer_ms * MS, 0
    )


def test_a_sweep_is_a_line_a_setting() -> None:
    sweep = [
        Measurement(Setting(concurrency=8), 5.0, 500, 100.0, LATENCY, statistics=(delta("m", 1, 3),), client_cpu=0.05),
        Measurement(Setting(concurrency=16), 5.0, 0, 0.0, None, errors=7, first_error="503: full"),
    ]
    head, first, second = report.sweep_table(sweep).splitlines()
    assert head.split()[:2] == ["concurrency", "infer/s"]
    assert first.split() == ["8", "100.0", "10.0", "15.0", "123", "200", "0", "25%", "75%", "4.0", "5%"]
    assert second.split() == ["16", "0.0", "-", "-", "-", "-", "7", "-", "-", "-", "0%"]


def test_shares_of_an_ensemble_are_those_of_its_steps() -> None:
    models = (delta("all", 0, 10), delta("pre", 2, 2), delta("core", 2, 4))
    table = report.sweep_table([Measurement(Setting(rate=5), 5.0, 25, 5.0, LATENCY, statistics=models)])
    assert table.splitlines()[0].startswith("rate")
    assert table.splitlines()[1].split()[7:10] == ["40%", "60%", "4.0,4.0"]


def test_stages_are_milliseconds_a_request() -> None:
    row = report.stage_table((delta("m", 1, 3),)).splitlines()[1].split()
    assert row == ["m", "100", "4.00", "1.00", "0.00", "3.00", "0.00", "4.0", "-"]


def test_notes_name_errors_a_busy_client_and_a_server_that_does_not_keep_up() -> None:
    found = report.notes(
        [
            Measurement(Setting(concurrency=1), 5.0, 10, 2.0, LATENCY, errors=1, first_error="boom", client_cpu=0.95),
            Measurement(Setting(rate=100), 5.0, 200, 40.0, LATENCY, due=500),
        ]
    )
    assert found[0] == "errors at 1: the first was: boom"
    assert "whole core at 1" in found[1]
    assert "does not keep up with 100/s" in found[2]


def test_a_calm_sweep_has_no_notes() -> None:
    assert report.notes([Measurement(Setting(rate=100), 5.0, 440, 88.0, LATENCY, due=450, client_cpu=0.1)]) == []
