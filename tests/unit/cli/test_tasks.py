"""`conch tasks` tells what can be deployed here, and how."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from conch.cli import tasks
from conch.cli.main import main
from conch.deploy.split import splitters
from conch.deploy.split.splitters import ways
from conch.deploy.tasks import TASKS, find_task


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def printed(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(["tasks", *flags]) == 0
    return capsys.readouterr().out


def row(text: str, task: str) -> str:
    return next(line for line in text.splitlines() if line.split()[:1] == [task])


def test_every_task_has_a_row_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(row(printed(capsys), name) for name in TASKS)
    assert [each["task"] for each in json.loads(printed(capsys, "--json"))["tasks"]] == sorted(TASKS)


@pytest.mark.usefixtures("all_installed")
def test_every_task_is_served_by_approach_1_where_all_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "--json"))["tasks"]
    assert {each["pipeline"]["state"] for each in found} == {"yes"}
    assert "missing" not in printed(capsys)


@pytest.mark.usefixtures("all_installed")
def test_ensemble_says_how_a_task_is_broken_apart() -> None:
    assert tasks.describe(find_task("sentence-embedding"))["ensemble"] == {"state": "yes", "splits": ["light"]}
    assert tasks.describe(find_task("text-generation"))["ensemble"]["splits"] == ["generate"]
    both = tasks.describe(find_task("image-classification"))["ensemble"]["splits"]
    assert both == ["light", "pipeline's steps"]


@pytest.mark.usefixtures("all_installed")
def test_task_that_nothing_breaks_apart_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitters, "_SPLITTERS", {})
    found = tasks.describe(find_task("decision"))
    assert (found["pipeline"]["state"], found["ensemble"]["state"]) == ("yes", "no")


@pytest.mark.usefixtures("nothing_installed")
def test_missing_packages_are_named_with_what_waits_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys)
    assert "missing" in row(text, "fill-mask")
    assert (
        "missing sentence-transformers for sentence-embedding, text-ranking: pip install sentence-transformers" in text
    )
    assert "here 0 by --approach pipeline, 0 by --approach ensemble" in text


def test_missing_package_leaves_the_other_tasks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    find: Any = lambda name: None if name == "soxr" else object()  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", find)
    assert tasks.describe(find_task("automatic-speech-recognition"))["missing"] == ["soxr"]
    assert tasks.describe(find_task("text-classification"))["missing"] == []


def test_ways_are_listed_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitters, "_SPLITTERS", {"ears": ("audio:a", "text:b", "generic:c", "generation:d")})
    assert ways("ears") == ("light", "pipeline's steps", "generate")
    assert ways("telepathy") == ()
