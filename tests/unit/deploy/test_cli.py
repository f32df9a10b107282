"""`conch deploy` writes, tells what to do next, and fails loudly."""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
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


@pytest.mark.parametrize("approach", ["pipeline", "ensemble"])
def test_checkpoint_that_the_library_cannot_load_is_told_in_one_line(
    approach: str, checkpoint_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(checkpoint_of("text-classification"), cut)
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    capsys.readouterr()
    assert run(str(cut), "--model-repository", str(tmp_path / "models"), "--approach", approach) == 1
    shown = capsys.readouterr().err
    assert re.fullmatch(rf"conch deploy: error: the library cannot load '{cut}': .*SafetensorError.*\n", shown), shown
    assert not list((tmp_path / "models").iterdir())


@pytest.mark.parametrize("approach", ["pipeline", "ensemble"])
def test_checkpoint_without_its_tokenizer_is_refused(
    approach: str, checkpoint_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers makes an empty tokenizer then, for which every text is the same."""
    mute = tmp_path / "mute"
    shutil.copytree(checkpoint_of("text-classification"), mute, ignore=shutil.ignore_patterns("tokenizer*"))
    assert run(str(mute), "--model-repository", str(tmp_path / "models"), "--approach", approach) == 1
    assert f"'{mute}' has no vocabulary: the files of its tokenizer" in capsys.readouterr().err
    assert not list((tmp_path / "models").iterdir())


class Terminal(io.StringIO):
    """A standard error that somebody looks at, or nobody."""

    def __init__(self, watched: bool) -> None:
        super().__init__()
        self._watched = watched

    def isatty(self) -> bool:
        return self._watched


@pytest.mark.parametrize("watched", [True, False])
def test_progress_is_a_bar_where_somebody_looks(watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(watched)
    monkeypatch.setattr(sys, "stderr", terminal)
    watch = deploy._Watch()
    watch("exporting for onnxruntime", 0.25)
    watch("copying model.safetensors", 0.5)
    watch.close()
    shown = terminal.getvalue()
    if watched:
        assert re.search(r"exporting for onnxruntime +25%\|.*<", shown)
        assert re.search(r"copying model\.safetensors +50%\|", shown)
    else:
        assert shown == ""


def test_repository_that_cannot_be_written_is_told_in_one_line(
    checkpoint_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    checkpoint = str(checkpoint_of("text-classification"))
    capsys.readouterr()
    assert run(checkpoint, "--model-repository", str(tmp_path / "file" / "models")) == 1
    assert re.fullmatch(r"conch deploy: error: cannot deploy to '.*': .*Not a directory.*\n", capsys.readouterr().err)


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


ENSEMBLE = ("--approach", "ensemble", "--backend", "onnxruntime")


def ensemble(checkpoint_of: Callable[[str], Path], repository: Path, *arguments: str) -> int:
    pytest.importorskip("onnxruntime")
    checkpoint = str(checkpoint_of("text-classification"))
    return run(checkpoint, "--model-repository", str(repository), "--name", "mood", *ENSEMBLE, *arguments)


def test_ensemble_is_written_verified_and_reported(
    checkpoint_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ensemble(checkpoint_of, tmp_path, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["approach"], report["reason"], report["verified"]) == ("ensemble", "", True)
    assert report["models"] == ["mood", "mood_preprocess", "mood_core", "mood_postprocess"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(report["models"])
    assert [(each["part"], each["backend"], each["dtype"]) for each in report["engines"]] == [
        ("core", "onnxruntime", "float32")
    ]
    assert report["engines"][0]["accuracy"] is None
    assert report["notes"] == []
    assert {row["stage"] for row in report["differences"]} == {"preprocess", "core", ""}


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "package"), [("onnxruntime", "onnxruntime"), ("openvino", "nncf")])
def test_int8_is_deployed_served_and_verified_and_its_accuracy_is_told(
    backend: str,
    package: str,
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(package)
    assert ensemble(checkpoint_of, tmp_path, "--json", "--backend", backend, "--quantize", "int8") == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert (report["approach"], report["verified"]) == ("ensemble", True)
    (engine,) = report["engines"]
    assert (engine["backend"], engine["dtype"]) == (backend, "int8")
    accuracy = engine["accuracy"]
    assert 0 < accuracy["largest_difference"] < 0.5
    assert 0.9 < accuracy["smallest_cosine"] <= 1
    line = f"core: int8 against float32: largest relative difference {accuracy['largest_difference']:.2g}, smallest"
    assert line in shown.err


def test_formats_that_no_engine_makes_are_the_reason_for_approach_1(
    checkpoint_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, text in (
        (("--dtype", "bf16"), "--dtype bf16 is made for pytorch only: ask for it with --backend pytorch"),
        (("--backend", "pytorch", "--quantize", "int8"), "--quantize int8 is made for onnxruntime and openvino only"),
    ):
        assert ensemble(checkpoint_of, tmp_path, "--no-verify", "--force", "--json", *arguments) == deploy.FELL_BACK
        report = json.loads(capsys.readouterr().out)
        assert report["approach"] == "pipeline"
        assert text in report["reason"]
        assert "\n" not in report["reason"]


def test_options_of_exported_networks_are_refused_where_there_is_none(
    checkpoint_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(checkpoint_of("text-generation"))
    for arguments in (("--quantize", "int8"), ("--opset", "17")):
        assert run(checkpoint, "--model-repository", str(tmp_path), *ENSEMBLE, *arguments) == 1
        assert f"{' '.join(arguments)}: no network of" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("task", "arguments", "text"),
    [
        ("text-classification", (), "--stream is for text-generation, got text-classification"),
        ("text-generation", ("--approach", "ensemble"), "--stream writes one model that holds all"),
        ("text-generation", ("--max-batch-size", "4"), "leave --max-batch-size out"),
    ],
)
def test_what_cannot_be_streamed_is_refused(
    task: str,
    arguments: tuple[str, ...],
    text: str,
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(str(checkpoint_of(task)), "--model-repository", str(tmp_path), "--stream", *arguments) == 1
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_split_is_deployed_by_approach_1_and_says_so(
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from conch.deploy import run as deploying
    from conch.deploy.split.parts import CannotSplit

    def refuse(subject: object) -> None:
        raise CannotSplit("its network\nis a riddle")

    monkeypatch.setattr(deploying, "split", refuse)
    assert ensemble(checkpoint_of, tmp_path, "--no-verify") == deploy.FELL_BACK == 3
    assert "by approach 1 (exit code 3): its network is a riddle" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["mood"]
    assert ensemble(checkpoint_of, tmp_path, "--no-verify", "--force", "--json") == deploy.FELL_BACK
    report = json.loads(capsys.readouterr().out)
    assert (report["approach"], report["reason"]) == ("pipeline", "its network is a riddle")


def test_exporter_that_fails_is_the_reason_for_approach_1(
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from conch.deploy.export import onnx

    def fail(*arguments: object, **keywords: object) -> None:
        raise RuntimeError("operator 'riddle' is not supported")

    monkeypatch.setattr("conch.deploy.export.attempts.write_onnx", fail)
    assert onnx.write_onnx is not fail
    assert ensemble(checkpoint_of, tmp_path, "--no-verify") == deploy.FELL_BACK
    shown = capsys.readouterr().out
    assert "the stage 'core' cannot be exported: onnxruntime: " in shown
    assert "operator 'riddle' is not supported" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["mood"]


@pytest.mark.parametrize("keep", [False, True])
def test_core_that_is_wrong_is_refused_by_name(
    keep: bool,
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from conch.deploy import run as deploying
    from conch.deploy.split.network import Network

    class Biased(torch_module().nn.Module):  # type: ignore[misc]  # torch is loaded lazily
        def __init__(self, module: Any) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: Any) -> Any:
            logits, probs = self.module(*tensors)
            return logits + 0.01, probs

    export = deploying.export_best

    def export_another(network: Network, *arguments: Any) -> Any:
        return export(msgspec.structs.replace(network, module=Biased(network.module)), *arguments)

    monkeypatch.setattr(deploying, "export_best", export_another)
    assert ensemble(checkpoint_of, tmp_path, *(["--keep-failed"] if keep else [])) == 1
    shown = capsys.readouterr()
    assert "VERIFICATION FAILED: 'mood' does not answer as the library does: the stage 'core' differs." in shown.err
    assert "serve it:" not in shown.out
    assert (tmp_path / "mood").exists() is keep
    assert keep or list(tmp_path.iterdir()) == []


def torch_module() -> Any:
    return pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--target", "triton:9"), "unknown target 'triton:9'; expected triton:YY.MM"),
        (("--target", "triton:24.10", "--opset", "30"), "got --opset 30"),
        (("--quantize", "int8", "--dtype", "fp16"), "int8 starts from fp32 weights"),
    ],
)
def test_options_of_the_export_are_refused_before_any_work(
    arguments: tuple[str, ...],
    text: str,
    checkpoint_of: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ensemble(checkpoint_of, tmp_path, *arguments) == 1
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
