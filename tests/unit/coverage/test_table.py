"""The coverage table counts right, says why not, and is about the architectures there are."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from conch.deploy.tasks import find_task
from tests import checkpoints
from tests.coverage import table
from tests.coverage.outcome import ENGINES, Deployed, Outcome, read, write

EQUAL = Deployed("equal", 1e-6)
ON_ALL = Deployed("equal", 2e-6, engines=dict.fromkeys(ENGINES, "equal"), chosen={"core": "openvino"})
PAGE = Path(__file__).resolve().parents[3] / "docs" / "coverage.md"


def outcome(name: str, ensemble: Deployed = ON_ALL, pipeline: Deployed = EQUAL, **fields: bool) -> Outcome:
    task, _, architecture = name.partition(".")
    return Outcome(name, task, architecture, pipeline, ensemble, **fields)


def row(page: str, architecture: str) -> list[str]:
    line = next(line for line in page.splitlines() if re.match(rf"\| \S+ \| {re.escape(architecture)} ", line))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_networks_and_generators_are_counted_apart() -> None:
    counts = table.count(
        [
            outcome("reading.bert"),
            outcome("reading.t5", Deployed("pipeline", reason="it has no one network")),
            outcome("writing.gpt2", EQUAL, generates=True),
            outcome("writing.mamba", Deployed("failed", reason="no"), generates=True),
        ]
    )
    assert (counts.rows, counts.pipeline) == (4, 4)
    assert (counts.networks, counts.networks_served) == (2, 1)
    assert (counts.generating, counts.generating_served) == (2, 1)


def test_rows_for_which_a_package_is_missing_count_neither_for_nor_against() -> None:
    missing = Deployed("missing", reason="transformers needs torchvision for it")
    counts = table.count([outcome("reading.bert"), outcome("masks.sam", missing, missing)])
    assert (counts.rows, counts.tasks, counts.networks, counts.missing) == (1, 1, 1, 1)


def test_task_is_served_if_approach_1_serves_one_of_its_architectures() -> None:
    failed = Deployed("failed", reason="no")
    counts = table.count(
        [outcome("a.one"), outcome("a.two", failed, failed), outcome("b.one", failed, failed), outcome("c.one")]
    )
    assert (counts.tasks, counts.tasks_served, counts.pipeline) == (3, 2, 2)


def test_engine_counts_only_where_it_is_equal() -> None:
    partly = Deployed("equal", engines={"onnxruntime": "equal", "openvino": "core: wrong", "pytorch": "equal"})
    counts = table.count([outcome("a.one"), outcome("a.two", partly), outcome("a.three", Deployed("pipeline"))])
    assert counts.engines == {"onnxruntime": 2, "openvino": 1, "pytorch": 2}


def test_row_shows_the_engine_that_was_kept_and_the_difference() -> None:
    cells = row(table.page([outcome("reading.bert")], "x 1"), "bert")
    assert cells == ["reading", "bert", "yes", "yes", "yes", "**yes**", "yes", "2e-06", ""]


def test_row_of_a_generator_has_no_engines() -> None:
    cells = row(table.page([outcome("writing.gpt2", Deployed("equal"), generates=True)], "x 1"), "gpt2")
    assert cells == ["writing", "gpt2", "yes", "generate", "-", "-", "-", "text", ""]


def test_row_that_fell_back_says_why_in_one_line() -> None:
    ensemble = Deployed("pipeline", reason="two networks | or\nmore `calls`")
    cells = row(table.page([outcome("reading.odd", ensemble)], "x 1"), "odd")
    assert cells == ["reading", "odd", "yes", "no", "no", "no", "no", "1e-06", r"two networks \| or more 'calls'"]


def test_long_reasons_are_cut() -> None:
    (reason,) = table.reasons(outcome("a.b", Deployed("failed", reason="x" * 1000)))
    assert len(reason) == 160
    assert reason.endswith("...")


def test_engine_that_differs_is_a_no_with_its_reason() -> None:
    engines = {"onnxruntime": "equal", "openvino": "core: the export is wrong", "pytorch": "equal"}
    cells = row(table.page([outcome("a.b", Deployed("equal", 0.0, engines=engines))], "x 1"), "b")
    assert cells[4:] == ["yes", "no", "yes", "0", "OpenVINO: core: the export is wrong"]


def test_reason_that_both_approaches_share_is_given_once() -> None:
    missing = Deployed("missing", reason="transformers needs torchvision for it")
    assert table.reasons(outcome("masks.sam", missing, missing)) == ["transformers needs torchvision for it"]


def test_trained_weights_are_told_from_random_ones() -> None:
    page = table.page([outcome("a.minilm"), outcome("a.minilm", real=True)], "x 1")
    assert page.index("| a | minilm |") < page.index("| a | minilm (trained weights) |")


def test_outcomes_survive_the_file_they_are_kept_in(tmp_path: Path) -> None:
    kept = {each.name: each for each in (outcome("b.one"), outcome("a.two", Deployed("pipeline", reason="why")))}
    write(tmp_path / "build" / "coverage.json", kept)
    assert read(tmp_path / "build" / "coverage.json") == kept
    assert read(tmp_path / "nothing.json") == {}


def test_half_written_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "coverage.json").write_text('[{"name": "a.one"')
    with pytest.raises(msgspec.DecodeError):
        read(tmp_path / "coverage.json")


def test_page_has_a_row_for_every_architecture_and_no_other() -> None:
    """After adding one: make coverage-table ARGS="--resume"."""
    cells = [row[1:3] for row in (line.split("|") for line in PAGE.read_text().splitlines()) if len(row) == 11]
    rows = {(task.strip(), name.strip()) for task, name in cells if "(trained weights)" not in name}
    known = {(find_task(each.task).name, each.family) for each in checkpoints.ARCHITECTURES.values()}
    assert rows - {("task", "architecture"), ("---", "---")} == known


def test_at_least_sixty_architectures_are_tried() -> None:
    assert len(checkpoints.ARCHITECTURES) >= 60
