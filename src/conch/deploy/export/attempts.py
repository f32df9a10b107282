"""One engine's try at a network: write its files, load them, prove them. What cannot be done ends in one reason."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import msgspec

from conch.deploy.export.onnx import (
    EXPORTERS,
    SCRIPT_NEWEST_OPSET,
    OnnxFile,
    OnnxRuntimeRunner,
    read_versions,
    write_onnx,
)
from conch.deploy.export.openvino import OpenVinoRunner, newest_opset, write_openvino
from conch.deploy.export.options import ExportOptions, Rejection
from conch.deploy.export.prove import Arrays, Difference, Runner, one_line, prove, worst
from conch.deploy.export.quantize import halve_onnx, quantize_onnx
from conch.deploy.export.target import Target
from conch.deploy.export.torchscript import TorchScriptRunner, write_torchscript
from conch.deploy.extras import require
from conch.deploy.split.network import Network

Say = Callable[[str], None]


class Job(msgspec.Struct, frozen=True):
    """What every engine is given.

    Attributes:
        network: as the caller has it.
        full: the same in FP32, from which ONNX files are made.
        dtype: number format of the weights in the file: torch's name of it, or "int8".
        expected: what the original module answers to each sample.
        scratch: a directory of its own for every engine is made here.
        threads: of the engines.
        say: told when something takes longer than usual.
    """

    network: Network
    full: Network
    dtype: str
    expected: list[Arrays]
    scratch: Path
    options: ExportOptions
    target: Target
    threads: int
    say: Say


class Candidate(msgspec.Struct, frozen=True):
    """Files that were proved equal, and the engine that runs them.

    Attributes:
        directory: holds the files and nothing else.
        opset: of the ONNX file they are or come from; 0 for none.
    """

    backend: str
    platform: str
    directory: Path
    runner: Runner
    proof: list[Difference]
    opset: int
    notes: tuple[str, ...] = ()


class Rejected(Exception):
    """An engine does not serve the network."""

    def __init__(self, backend: str, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.rejection = Rejection(backend, kind, reason)


class OnnxSources:
    """The ONNX files of a network: made when asked for, once, and not given again when found wrong."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._made: dict[str, OnnxFile] = {}
        self._rejected: dict[str, Rejected] = {}

    def get(self, exporter: str) -> OnnxFile:
        """The file of that exporter.

        Raises:
            Rejected: it could not be made, or is wrong.
        """
        if exporter in self._rejected:
            raise self._rejected[exporter]
        if exporter not in self._made:
            try:
                self._made[exporter] = self._write(exporter)
            except Exception as error:
                self._rejected[exporter] = Rejected(exporter, "failed", one_line(error))
                raise self._rejected[exporter] from error
        return self._made[exporter]

    def reject(self, source: OnnxFile, error: Rejected) -> None:
        """Do not give this file again."""
        self._rejected[source.exporter] = error

    @property
    def exhausted(self) -> str:
        """What became of the last file once there is none left to give, else ""."""
        if len(self._rejected) < len(EXPORTERS):
            return ""
        kinds = [each.rejection.kind for each in self._rejected.values()]
        return "wrong" if "wrong" in kinds else kinds[-1]

    def known(self, exporter: str) -> bool:
        """Whether asking for the file is quick."""
        return exporter in self._made or exporter in self._rejected

    def _write(self, exporter: str) -> OnnxFile:
        job, opset = self._job, self._job.options.opset
        limit = opset or job.target.opset
        if exporter == "script" and opset and opset > SCRIPT_NEWEST_OPSET:
            raise ValueError(f"it knows operators up to opset {SCRIPT_NEWEST_OPSET}, not {opset}")
        file = write_onnx(job.full, job.scratch / f"onnx-{exporter}", exporter, opset, job.target.ir)
        if file.opset > limit:
            raise ValueError(f"it wrote operators of opset {file.opset}, not {limit}")
        return file


def try_onnxruntime(job: Job, sources: OnnxSources) -> Candidate:
    """Raises `Rejected`."""
    return _from_onnx(job, sources, "onnxruntime", _onnxruntime)


def try_openvino(job: Job, sources: OnnxSources) -> Candidate:
    """Raises `Rejected`."""
    if job.options.device == "cuda":
        raise Rejected("openvino", "refused", "it does not run on NVIDIA GPUs")
    _refuse_unless_asked_for(job, "openvino")
    return _from_onnx(job, sources, "openvino", _openvino)


def try_pytorch(job: Job, sources: OnnxSources) -> Candidate:
    """Raises `Rejected`."""
    if job.dtype == "int8":
        raise Rejected("pytorch", "refused", "--quantize int8 is made for onnxruntime and openvino only")
    _refuse_unless_asked_for(job, "pytorch")
    network, outputs = job.network, tuple(spec.name for spec in job.network.outputs)
    try:
        if job.dtype != network.dtype:
            network = require("conch.deploy.export.modules").cast(network, job.dtype)
        path = write_torchscript(network, job.scratch / "pytorch")
        runner = TorchScriptRunner(path, outputs, job.threads, job.options.device)
    except Exception as error:
        raise Rejected("pytorch", "failed", f"torch.jit.trace: {one_line(error)}") from error
    proof = _proved(job, runner, "pytorch", job.dtype)
    return Candidate("pytorch", "pytorch_libtorch", path.parent, runner, proof, 0, _doubt(job, "pytorch"))


def _doubt(job: Job, backend: str) -> tuple[str, ...]:
    """What cannot be told here: these engines promise to load files of their past, not of their future."""
    if not job.target.named:
        return ()
    package = {"openvino": "openvino", "pytorch": "torch"}[backend]
    made_by = f"{package} {importlib.metadata.version(package).split('+')[0]}"
    return (f"whether a file of {made_by} loads in Triton {job.target.release} cannot be told without trying it there",)


def _refuse_unless_asked_for(job: Job, backend: str) -> None:
    if job.options.backend == "auto" and (doubt := _doubt(job, backend)):
        raise Rejected(backend, "refused", f"{doubt[0]}; ask for it with --backend {backend}")


def _from_onnx(
    job: Job, sources: OnnxSources, backend: str, build: Callable[[Job, OnnxFile, str], Candidate]
) -> Candidate:
    """A candidate from the first ONNX file that is equal. FP32 is proved first, whatever its weights become."""
    if job.dtype == "bfloat16":
        raise Rejected(backend, "refused", "--dtype bf16 is made for pytorch only: ask for it with --backend pytorch")
    if kind := sources.exhausted:
        raise Rejected(backend, kind, "it starts from the same ONNX files")
    reasons: list[Rejected] = []
    for exporter in EXPORTERS:
        if reasons and not sources.known(exporter):
            job.say(f"{job.options.stage}: {backend}: {reasons[-1]}; trying torch.export, which takes a minute or more")
        try:
            source = sources.get(exporter)
        except Rejected as error:
            reasons.append(error)
            continue
        try:
            candidate = build(job, source, "float32")
        except Rejected as error:
            reasons.append(error)
            if error.rejection.kind == "wrong":
                sources.reject(source, error)
            if error.rejection.kind == "refused":
                break
            continue
        return candidate if job.dtype == "float32" else build(job, source, job.dtype)
    kinds = [each.rejection.kind for each in reasons]
    texts = dict.fromkeys(str(each) for each in reasons)
    raise Rejected(backend, "wrong" if "wrong" in kinds else kinds[-1], "; then ".join(texts))


def _onnxruntime(job: Job, source: OnnxFile, dtype: str) -> Candidate:
    try:
        if dtype == "int8":
            source = quantize_onnx(source, job.scratch / "onnxruntime-int8")
        elif dtype == "float16":
            source = halve_onnx(source, job.scratch / "onnxruntime-fp16")
        _check_versions(job, source)
        runner = OnnxRuntimeRunner(source.path, job.threads, job.options.device)
    except Rejected:
        raise
    except Exception as error:
        raise Rejected("onnxruntime", "failed", one_line(error)) from error
    proof = _proved(job, runner, "onnxruntime", dtype)
    return Candidate("onnxruntime", "onnxruntime_onnx", source.path.parent, runner, proof, source.opset)


def _check_versions(job: Job, source: OnnxFile) -> None:
    """Refuse a file that the target would not load: what makes weights smaller may write a newer one."""
    ir, opset = read_versions(source.path)
    limit = job.options.opset or job.target.opset
    if ir > job.target.ir or opset > limit:
        reason = (
            f"the file has IR version {ir} and opset {opset}; Triton {job.target.release} loads up to IR version "
            f"{job.target.ir} and opset {limit}"
        )
        raise Rejected("onnxruntime", "refused", reason)


def _openvino(job: Job, source: OnnxFile, dtype: str) -> Candidate:
    directory = job.scratch / f"openvino-{source.exporter}-{dtype}"
    try:
        path = write_openvino(job.network, source, directory, dtype)
        runner = OpenVinoRunner(path, job.threads)
    except Exception as error:
        raise Rejected("openvino", "failed", one_line(error)) from error
    newest, loads = newest_opset(path), job.target.openvino_opset
    if job.target.named and newest > loads:
        reason = f"the file has operators of opset{newest}, Triton {job.target.release} loads up to opset{loads}"
        raise Rejected("openvino", "refused", reason)
    proof = _proved(job, runner, "openvino", dtype)
    return Candidate("openvino", "", directory, runner, proof, source.opset, _doubt(job, "openvino"))


def _proved(job: Job, runner: Runner, backend: str, dtype: str) -> list[Difference]:
    """The proof, if it holds."""
    rows = prove(job.network, job.expected, runner, backend, dtype)
    last = worst(rows)
    if not last.passed:
        raise Rejected(backend, "wrong", f"the export is wrong: {last}")
    return rows
