"""`conch compare`: what it refuses, and how it deploys; measuring is tested with real servers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conch.cli import compare
from conch.cli.main import main
from conch.testing import ModelRepositoryBuilder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return ModelRepositoryBuilder(tmp_path / "models").add_identity("a").add_identity("b").root


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a", "none"], "'a' is no deployed model: expected directories with a config.pbtxt (models/NAME)"),
        (["none", "--rounds", "0"], "--rounds expects 1 or more, got 0"),
        (["none", "--concurrency", "x"], "--concurrency expects numbers separated by commas, got 'x'"),
        (["none", "--seconds", "-1"], "--seconds and --timeout expect more than 0"),
    ],
)
def test_wrong_arguments_exit_with_2(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *arguments]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("no-such-server {http}", "cannot start 'no-such-server': No such file or directory"),
        ("server {htp}", "it may name {repository}, {model}, {http}, {grpc} and {metrics}"),
    ],
)
def test_a_peer_that_cannot_be_started_is_named(
    repository: Path, peer: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "CONCH", peer)  # the first server fails already
    assert main(["compare", str(repository / "a"), "--peer", peer]) == 2
    assert expected in capsys.readouterr().err


def test_a_server_that_ends_shows_the_end_of_its_log(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "CONCH", f"{sys.executable} -c \"print('no GPU here'); raise SystemExit(3)\"")
    assert main(["compare", str(repository / "a"), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == "the server of a ended with 3:\n  no GPU here"


def test_a_server_that_is_never_ready_is_stopped_at_the_limit(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "CONCH", f'{sys.executable} -c "import time; time.sleep(60)"')
    assert main(["compare", str(repository / "a"), "--start-limit", "0.2"]) == 1
    assert "the server of a was not ready in time (--start-limit)" in capsys.readouterr().err


def test_models_of_one_name_are_told_apart_by_their_repository(tmp_path: Path) -> None:
    subjects = list(compare._with_peers([tmp_path / "x" / "m", tmp_path / "y" / "m", tmp_path / "y" / "n"], None))
    assert [subject.label for subject in subjects] == ["x/m", "y/m", "n"]


def test_a_peer_serves_each_model_too(tmp_path: Path) -> None:
    subjects = list(compare._with_peers([tmp_path / "m"], "/opt/tritonserver --http-port={http}"))
    assert [subject.label for subject in subjects] == ["m", "m on tritonserver"]


class Deploys:
    """Stands in for `conch deploy` processes: notes the commands, answers with reports."""

    def __init__(self, *reports: Any) -> None:
        self.commands: list[list[str]] = []
        self._reports = list(reports)

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        return subprocess.CompletedProcess(command, 1, json.dumps(self._reports.pop(0)))


def test_a_checkpoint_is_deployed_by_both_approaches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directories = [tmp_path / "x-pipeline", tmp_path / "x-ensemble"]
    for directory in directories:
        directory.mkdir()
    deploys = Deploys(*({"directory": str(directory), "verified": True} for directory in directories))
    seen: list[compare.Subject] = []

    def refuse(subject: compare.Subject, limit_s: float) -> Any:
        seen.append(subject)
        raise compare.UnavailableError("enough")

    monkeypatch.setattr(subprocess, "run", deploys)
    monkeypatch.setattr(compare, "running", refuse)
    flags = ["--model-repository", str(tmp_path), "--deploy", "--quantize int8"]
    assert main(["compare", "owner/x", *flags]) == 1
    for command, approach in zip(deploys.commands, ("pipeline", "ensemble"), strict=True):
        assert command[:5] == [sys.executable, "-m", "conch", "deploy", "owner/x"]
        assert f"--approach={approach}" in command
        assert f"--name=x-{approach}" in command
        assert command[-2:] == ["--quantize", "int8"]
    assert [subject.model for subject in seen] == ["x-pipeline"]


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"error": "no such model"}, "the approach 'pipeline' failed: no such model"),
        ({}, "the approach 'pipeline' failed: conch deploy ended with 1"),
        ({"directory": "/nowhere", "verified": False}, "the approach 'pipeline' does not answer as the library does"),
        ({"directory": "/", "approach": "ensemble", "reason": "odd"}, "the approach 'pipeline' is not possible: odd"),
    ],
)
def test_a_deploy_that_fails_gives_its_reason(
    report: Any, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", Deploys(report))
    assert main(["compare", "owner/x"]) == 1
    assert expected in capsys.readouterr().err
