"""What is asked of an export, and what comes of it, as values."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conch.deploy.export.prove import Difference
from conch.deploy.tasks import TensorSpec
from conch.errors import UnsupportedError

#: Engines that may serve a network, in the order they are preferred in when their speed does not tell them apart.
BACKENDS = ("onnxruntime", "openvino", "pytorch")


class ExportOptions(msgspec.Struct, frozen=True):
    """How to export.

    Attributes:
        backend: one of `BACKENDS`, or "auto" for the fastest of the installed ones that is equal.
        dtype: number format of the weights ("fp32", "fp16", "bf16" or torch's name of it); "" keeps the network's.
            Tensors on the wire stay what the network says.
        quantize: "int8", or "" for no quantisation.
        opset: of the ONNX file; None for one that `target` loads.
        target: "triton:YY.MM", the release that must load the file; "" for none in particular.
        device: "cpu" or "cuda", where it will serve. The file is the same; OpenVINO is left out for "cuda".
        stage: how errors name the network ("core", "image_encoder", ...).
        threads: of the engines while they are timed; None for one a core.
    """

    backend: str = "auto"
    dtype: str = ""
    quantize: str = ""
    opset: int | None = None
    target: str = ""
    device: str = "cpu"
    stage: str = "core"
    threads: int | None = None


class Rejection(msgspec.Struct, frozen=True):
    """Why an engine does not serve the network.

    Attributes:
        kind: "missing" (not installed), "failed" (could not be exported or run), "wrong" (exported, but its outputs
            differ), "refused" (the options rule it out), "slower".
        reason: one line.
    """

    backend: str
    kind: str
    reason: str


class Exported(msgspec.Struct, frozen=True):
    """A network as files of an engine, proved equal to the module it came from.

    Attributes:
        backend, platform: for config.pbtxt; `platform` is "" where the backend has none.
        files: names in the directory that was exported to.
        inputs, outputs: tensors as the file has them, in its order. TorchScript takes inputs by the names of the
            arguments of `forward` and outputs by their position, so the order in config.pbtxt must be this one.
        dropped: inputs of the network that no output depends on and that the file therefore does not have.
        dtype: number format of the weights: "float32", "float16", "bfloat16" or "int8".
        opset: of the ONNX file it is or was converted from; 0 for TorchScript.
        proof: largest difference from the module for every output and sample.
        times_ms: backend -> time of a run on this machine, the geometric mean over the samples that were timed; only
            if several were equal.
        rejected: the engines that were not chosen.
        notes: what a reader of the deploy's report should know, a line each.
    """

    backend: str
    platform: str
    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dropped: tuple[str, ...]
    dtype: str
    opset: int
    proof: tuple[Difference, ...]
    times_ms: Mapping[str, float]
    rejected: tuple[Rejection, ...]
    notes: tuple[str, ...] = ()


class CannotExport(UnsupportedError):
    """No engine can serve the network; the text is one line that names the stage and says why.

    Attributes:
        rejected: each engine's reason. If one of them is "wrong", an export succeeded and was refused by the proof.
    """

    def __init__(self, stage: str, rejected: tuple[Rejection, ...]) -> None:
        reasons = "; ".join(f"{each.backend}: {each.reason}" for each in rejected)
        super().__init__(f"the stage '{stage}' cannot be exported: {reasons}")
        self.stage = stage
        self.rejected = rejected
