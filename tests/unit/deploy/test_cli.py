"""`conch deploy` writes, tells what to do next, and fails loudly."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conch.cli import deploy

pytest.importorskip("transformers")


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    deploy.add_arguments(parser)
    return deploy.run(parser.parse_args(arguments))


def test_model_is_written_and_its_next_steps_told(
    checkpoint_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of("text-classification")
    assert run(str(checkpoint), "--model-repository", str(tmp_path), "--name", "mood", "--no-verify") == 0
    assert (tmp_path / "mood" / "1" / "model.py").is_file()
    shown = capsys.readouterr().out
    assert f"conch serve --model-repository {tmp_path}" in shown
    assert "conch infer mood -i 'text=" in shown
    assert "curl -s localhost:8000/v2/models/mood/infer" in shown


def test_report_is_one_json_object(
    checkpoint_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of("image-classification")
    arguments = (
        str(checkpoint),
        "--model-repository",
        str(tmp_path),
        "--no-verify",
        "--json",
        "--image-input",
        "pixels",
    )
    assert run(*arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["name"], report["task"], report["verified"]) == (
        "image-classification",
        "image-classification",
        None,
    )
    assert report["inputs"] == [{"name": "image", "datatype": "UINT8", "dims": [-1, -1, 3]}]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("/nowhere",), "there is no checkpoint directory '/nowhere'"),
        (("CHECKPOINT", "--task", "juggling"), "unknown task 'juggling'; expected one of"),
        (("CHECKPOINT", "--parameter", "top_k"), "--parameter expected NAME=VALUE, got 'top_k'"),
        (("CHECKPOINT", "--parameter", "treshold=1"), "unknown parameters ['treshold']"),
    ],
)
def test_error_is_one_line_on_stderr(
    arguments: tuple[str, ...],
    text: str,
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = str(checkpoint_of("text-classification"))
    words = [checkpoint if word == "CHECKPOINT" else word for word in arguments]
    assert run(*words, "--model-repository", str(tmp_path)) == 1
    shown = capsys.readouterr().err.strip()
    assert shown.startswith("conch deploy: error: ")
    assert text in shown
    assert list(tmp_path.iterdir()) == []


def test_error_in_json_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("/nowhere", "--json", "--model-repository", str(tmp_path)) == 1
    assert json.loads(capsys.readouterr().out) == {"error": "there is no checkpoint directory '/nowhere'"}


def test_verified_deploy_ends_well_and_a_wrong_one_does_not(
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from conch.deploy import reference

    arguments = (str(checkpoint_of("text-classification")), "--model-repository", str(tmp_path), "--force")
    assert run(*arguments) == 0
    assert "verified: the deployed model answers as the library does" in capsys.readouterr().out
    truth = reference.Reference.answer
    monkeypatch.setattr(
        reference.Reference, "answer", lambda self, sample: {**truth(self, sample), "label": ["something else"]}
    )
    assert run(*arguments, "--serve") == 1
    shown = capsys.readouterr()
    assert "FAILED expected 'something else'" in shown.out
    assert "VERIFICATION FAILED: 'text-classification' does not answer as the library does" in shown.err
    assert "serve it:" not in shown.out


def test_importing_the_command_loads_no_heavy_library() -> None:
    code = "import sys, conch.cli.deploy; print([n for n in ('torch', 'transformers', 'PIL') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
