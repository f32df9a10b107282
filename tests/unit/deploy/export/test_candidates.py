"""The whole export of a small network: what is chosen, what is refused, what is left on the disk."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from conch.deploy.export import BACKENDS, CannotExport, Exported, ExportOptions, attempts, candidates, export_best
from conch.deploy.export.onnx import OnnxRuntimeRunner, read_versions
from conch.deploy.export.prove import expected_outputs, prove, worst
from conch.deploy.export.target import RELEASES, parse_target
from conch.errors import InvalidArgumentError
from tests.unit.deploy.export.networks import (
    BakesSequence,
    CannotBeTraced,
    Pooler,
    WrongWhenExported,
    WrongWhenTraced,
    text_network,
    tokens,
)

FILES = {
    "onnxruntime": ("model.onnx",),
    "openvino": ("model.bin", "model.xml"),
    "pytorch": ("model.pt",),
}


def export(directory: Path, backend: str, module: Any = None, **options: Any) -> Exported:
    return export_best(text_network(module), directory, ExportOptions(backend=backend, **options))


def refusal(directory: Path, backend: str, module: Any, **options: Any) -> CannotExport:
    with pytest.raises(CannotExport) as caught:
        export(directory, backend, module, **options)
    assert list(directory.iterdir()) == []
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_engine_that_is_asked_for_gets_its_files_alone(backend: str, tmp_path: Path) -> None:
    exported = export(tmp_path, backend)
    assert exported.backend == backend
    assert exported.files == tuple(sorted(each.name for each in tmp_path.iterdir())) == FILES[backend]
    assert len(exported.proof) == 6
    assert all(row.passed and row.backend == backend for row in exported.proof)
    assert [spec.name for spec in exported.outputs] == ["pooled", "scores"]
    assert exported.times_ms == {}
    assert exported.rejected == ()


def test_inputs_that_no_output_needs_are_reported(tmp_path: Path) -> None:
    onnx = export(tmp_path / "onnx", "onnxruntime")
    torch = export(tmp_path / "torch", "pytorch")
    assert (onnx.dropped, [spec.name for spec in onnx.inputs]) == (
        ("token_type_ids",),
        ["input_ids", "attention_mask"],
    )
    assert (torch.dropped, [spec.name for spec in torch.inputs]) == (
        (),
        ["input_ids", "attention_mask", "token_type_ids"],
    )


def timed(monkeypatch: pytest.MonkeyPatch, **times: float) -> None:
    monkeypatch.setattr(candidates, "time_runners", lambda runners, samples: {name: times[name] for name in runners})


def test_auto_keeps_the_fastest_and_removes_the_files_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, onnxruntime=3.0, openvino=2.0, pytorch=4.0)
    exported = export(tmp_path, "auto")
    assert exported.backend == "openvino"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    assert {each.backend: each.kind for each in exported.rejected} == {"onnxruntime": "slower", "pytorch": "slower"}
    assert exported.rejected[0].reason == "3.00 ms a run, openvino takes 2.00 ms"
    assert exported.times_ms == {"onnxruntime": 3.0, "openvino": 2.0, "pytorch": 4.0}


def test_auto_prefers_onnx_runtime_to_an_engine_that_is_hardly_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, onnxruntime=2.0, openvino=1.95, pytorch=4.0)
    exported = export(tmp_path, "auto")
    assert exported.backend == "onnxruntime"
    assert "hardly faster" in exported.rejected[0].reason


def test_auto_does_without_engines_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find, away = importlib.util.find_spec, {"onnxruntime", "openvino"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in away else find(name))
    exported = export(tmp_path, "auto")
    assert exported.backend == "pytorch"
    assert [(each.kind, each.reason) for each in exported.rejected] == [
        ("missing", "not installed: pip install onnxruntime"),
        ("missing", "not installed: pip install openvino"),
    ]


@pytest.mark.parametrize("backend", ["pytorch", pytest.param("auto", marks=pytest.mark.slow)])
def test_an_export_that_succeeds_and_is_wrong_is_refused_by_stage_and_output(backend: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, backend, WrongWhenExported(), stage="text_encoder")
    assert "the stage 'text_encoder' cannot be exported" in str(error)
    assert "the export is wrong: output 'scores' differs by 0.5 at batch=" in str(error)
    assert {each.kind for each in error.rejected} == {"wrong"}


def test_a_size_that_was_baked_in_is_found_by_the_other_samples(tmp_path: Path) -> None:
    error = refusal(tmp_path, "pytorch", BakesSequence())
    assert "output 'scores' differs" in str(error)
    assert "sequence=6" not in str(error)


@pytest.mark.slow
def test_the_thorough_exporter_is_tried_where_the_quick_one_is_wrong(tmp_path: Path) -> None:
    said: list[str] = []
    options = ExportOptions(backend="onnxruntime")
    exported = export_best(text_network(WrongWhenTraced()), tmp_path, options, said.append)
    assert all(row.passed for row in exported.proof)
    assert exported.opset == 18
    assert len(said) == 1
    assert "output 'scores' differs" in said[0]
    assert "trying torch.export" in said[0]


@pytest.mark.slow
def test_an_exporter_that_raises_leaves_one_line_of_reason(tmp_path: Path) -> None:
    error = refusal(tmp_path, "auto", CannotBeTraced())
    assert [(each.backend, each.kind) for each in error.rejected] == [(name, "failed") for name in BACKENDS]
    assert "RuntimeError: this operator has no symbolic form" in error.rejected[0].reason
    assert error.rejected[1].reason == "it starts from the same ONNX files"
    assert "RuntimeError: this operator has no symbolic form" in error.rejected[2].reason


def test_samples_that_cannot_prove_a_size_are_refused(tmp_path: Path) -> None:
    network = text_network(samples=(tokens(2, 6), tokens(3, 6)))
    with pytest.raises(CannotExport, match="only one size of sequence"):
        export_best(network, tmp_path, ExportOptions(backend="onnxruntime"))


def test_a_module_in_training_mode_is_exported_as_it_serves(tmp_path: Path) -> None:
    module = Pooler().train()
    export(tmp_path, "onnxruntime", module)
    assert not module.training
    assert not module.dropout.training


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_keeps_the_tensors_and_the_given_module(backend: str, tmp_path: Path) -> None:
    module = Pooler()
    exported = export(tmp_path / "half", backend, module, dtype="fp16")
    assert exported.dtype == "float16"
    assert 0 < worst(exported.proof).difference < 2e-2
    assert {spec.datatype.value for spec in exported.outputs} == {"FP32"}
    assert str(module.linear.weight.dtype) == "torch.float32"


def test_a_network_that_comes_in_half_precision_is_exported_in_it(tmp_path: Path) -> None:
    class Wide(Pooler):
        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            return tuple(each.float() for each in super().forward(*tensors))

    network = text_network(Wide().half(), dtype="float16")
    exported = export_best(network, tmp_path, ExportOptions(backend="onnxruntime"))
    assert (exported.backend, exported.dtype) == ("onnxruntime", "float16")
    assert worst(exported.proof).accepted == 2e-2


def test_bf16_is_made_for_pytorch_only(tmp_path: Path) -> None:
    exported = export(tmp_path, "auto", dtype="bf16")
    assert (exported.backend, exported.dtype) == ("pytorch", "bfloat16")
    assert [(each.backend, each.kind) for each in exported.rejected] == [
        ("onnxruntime", "refused"),
        ("openvino", "refused"),
    ]
    assert {each.reason for each in exported.rejected} == {
        "--dtype bf16 is made for pytorch only: ask for it with --backend pytorch"
    }


def test_int8_reports_its_accuracy_and_its_file_is_the_proved_one(tmp_path: Path) -> None:
    exported = export(tmp_path, "onnxruntime", quantize="int8")
    assert exported.dtype == "int8"
    last = worst(exported.proof)
    assert last.difference > 1e-4
    assert 0.9 < last.cosine < 1
    network = text_network()
    runner = OnnxRuntimeRunner(tmp_path / "model.onnx", 1)
    rows = prove(network, expected_outputs(network), runner, "onnxruntime", "int8")
    assert [row.cosine for row in rows] == pytest.approx([row.cosine for row in exported.proof])


@pytest.mark.slow
def test_int8_for_openvino_compresses_the_weights(tmp_path: Path) -> None:
    exported = export(tmp_path, "openvino", quantize="int8")
    assert exported.dtype == "int8"
    assert worst(exported.proof).cosine > 0.99


def test_int8_is_not_made_for_pytorch(tmp_path: Path) -> None:
    assert "int8 is made for onnxruntime and openvino" in str(refusal(tmp_path, "pytorch", None, quantize="int8"))


def test_a_target_keeps_to_onnx_runtime_unless_another_engine_is_asked_for(tmp_path: Path) -> None:
    exported = export(tmp_path / "auto", "auto", target="triton:24.10")
    assert exported.backend == "onnxruntime"
    assert exported.notes == ()
    assert {each.backend: each.kind for each in exported.rejected} == {"openvino": "refused", "pytorch": "refused"}
    assert exported.rejected[1].reason.endswith("ask for it with --backend pytorch")
    asked = export(tmp_path / "asked", "pytorch", target="triton:24.10")
    assert "loads in Triton 24.10 cannot be told" in asked.notes[0]


@pytest.mark.parametrize("release", [row[0] for row in RELEASES])
@pytest.mark.parametrize("weights", [{}, {"dtype": "fp16"}, {"quantize": "int8"}], ids=["fp32", "fp16", "int8"])
def test_files_have_the_versions_that_their_target_loads(release: str, weights: dict[str, Any], tmp_path: Path) -> None:
    target = parse_target(f"triton:{release}")
    exported = export(tmp_path, "onnxruntime", target=f"triton:{release}", **weights)
    ir, opset = read_versions(tmp_path / "model.onnx")
    assert opset == exported.opset
    assert (ir <= target.ir, opset <= target.opset) == (True, True)
    model = onnx.load(str(tmp_path / "model.onnx"))
    assert {each.domain for each in model.opset_import if each.version > 1} <= {"", "ai.onnx"}


def test_file_that_a_target_does_not_load_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes weights smaller may write a newer format than it was given."""
    monkeypatch.setattr(attempts, "read_versions", lambda path: (12, 17))
    error = refusal(tmp_path, "onnxruntime", None, quantize="int8", target="triton:23.12")
    assert "has IR version 12 and opset 17; Triton 23.12 loads up to IR version 9 and opset 19" in str(error)
    assert [each.kind for each in error.rejected] == ["refused"]


def test_openvino_operators_that_a_target_does_not_load_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "newest_opset", lambda path: 9)
    error = refusal(tmp_path, "openvino", None, target="triton:23.01")
    assert "Triton 23.01 loads up to opset8" in str(error)
    assert [each.kind for each in error.rejected] == ["refused"]


def test_openvino_is_left_out_on_a_gpu(tmp_path: Path) -> None:
    exported = export(tmp_path, "onnxruntime", device="cuda")
    assert "finds no GPU here" in exported.notes[0]
    assert "does not run on NVIDIA GPUs" in str(refusal(tmp_path / "no", "openvino", None, device="cuda"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backend": "tensorrt"}, "unknown backend 'tensorrt'; expected one of auto, onnxruntime, openvino, pytorch"),
        ({"quantize": "int4"}, "unknown quantisation 'int4'; expected int8"),
        ({"dtype": "fp8"}, "unknown number format 'fp8'; expected one of fp32, fp16, bf16"),
        ({"dtype": "fp16", "quantize": "int8"}, "int8 starts from fp32 weights"),
        ({"target": "triton:24.10", "opset": 23}, "got --opset 23"),
    ],
)
def test_options_that_are_not_possible_are_refused_before_anything_is_done(
    options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        export_best(text_network(), tmp_path / "new", ExportOptions(**options))
    assert not (tmp_path / "new").exists()


def test_progress_goes_from_nothing_to_everything(tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    options = ExportOptions(backend="pytorch", stage="core")
    export_best(text_network(), tmp_path, options, step=lambda *step: steps.append(step))
    assert [(done, total) for done, total, _ in steps] == [(0, 3), (1, 3), (3, 3)]
    assert all(what.startswith("core: ") for _, _, what in steps)


def test_nothing_is_reported_to_the_makers_of_an_engine(tmp_path: Path) -> None:
    """In a fresh process: importing OpenVINO once is what starts its telemetry."""
    script = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from conch.deploy.export import ExportOptions, export_best\n"
        "from tests.unit.deploy.export.networks import text_network\n"
        "export_best(text_network(), Path(sys.argv[1]), ExportOptions(backend='openvino'))\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
