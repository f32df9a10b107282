"""Export a network for every engine that may serve it, and keep the fastest that is equal."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from conch.deploy.export.attempts import (
    Candidate,
    Job,
    OnnxSources,
    Rejected,
    Say,
    try_onnxruntime,
    try_openvino,
    try_pytorch,
)
from conch.deploy.export.dtype import torch_name
from conch.deploy.export.options import BACKENDS, CannotExport, Exported, ExportOptions, Rejection
from conch.deploy.export.prove import expected_outputs, unproved_symbols
from conch.deploy.export.target import Target, check_opset, parse_target
from conch.deploy.export.timing import time_runners
from conch.deploy.extras import require
from conch.deploy.split.network import Network
from conch.errors import InvalidArgumentError

_TRIES: dict[str, Callable[[Job, OnnxSources], Candidate]] = {
    "onnxruntime": try_onnxruntime,
    "openvino": try_openvino,
    "pytorch": try_pytorch,
}
#: Backend -> the modules it takes to export for it.
_MODULES = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino"), "pytorch": ("torch",)}
#: The preferred engine stays unless another takes less than this share of its time.
_WORTHWHILE = 0.95
_TIMED_SAMPLES = 2


class Step(Protocol):
    """Told of progress: so many of so many steps are done, and what comes next."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


def _silent(text: str) -> None:
    """Nobody listens."""


def _unwatched(done: int, total: int, what: str) -> None:
    """Nobody watches."""


def export_best(
    network: Network, directory: Path, options: ExportOptions, say: Say = _silent, step: Step = _unwatched
) -> Exported:
    """Write the files of the fastest engine whose outputs equal the module's into `directory`.

    Nothing is left there of the others, nor of anything if no engine will do.

    Raises:
        InvalidArgumentError: an option is not possible.
        CannotExport: no engine can serve the network, or none was equal.
    """
    target = check_options(options)
    if symbols := unproved_symbols(network):
        reason = f"the samples have only one size of {' and '.join(symbols)}: other sizes could not be proved"
        raise CannotExport(options.stage, tuple(Rejection(each, "failed", reason) for each in _wanted(options)))
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=directory) as scratch:
        equal, rejected, times = _try_all(network, Path(scratch), options, target, say, step)
        if not equal:
            raise CannotExport(options.stage, tuple(rejected))
        best = equal[0]
        for candidate in equal[1:]:
            if times[candidate.backend] < _WORTHWHILE * times[best.backend]:
                best = candidate
        rejected += [
            Rejection(each.backend, "slower", _slower(each.backend, best.backend, times))
            for each in equal
            if each is not best
        ]
        return _keep(best, network, directory, options, times, tuple(rejected))


def check_options(options: ExportOptions) -> Target:
    """The target they mean.

    Raises:
        InvalidArgumentError: one of them is not possible; the text says which and what would be.
    """
    if options.backend not in ("auto", *BACKENDS):
        expected = ", ".join(("auto", *BACKENDS))
        raise InvalidArgumentError(f"unknown backend '{options.backend}'; expected one of {expected}")
    if options.quantize not in ("", "int8"):
        raise InvalidArgumentError(f"unknown quantisation '{options.quantize}'; expected int8")
    if options.dtype and torch_name(options.dtype) != "float32" and options.quantize:
        raise InvalidArgumentError(f"int8 starts from fp32 weights; got --dtype {options.dtype} with it")
    target = parse_target(options.target)
    check_opset(target, options.opset)
    return target


def _wanted(options: ExportOptions) -> tuple[str, ...]:
    return BACKENDS if options.backend == "auto" else (options.backend,)


def _dtype(network: Network, options: ExportOptions) -> str:
    """Number format of the weights in the file."""
    return options.quantize or (torch_name(options.dtype) if options.dtype else network.dtype)


def _try_all(
    network: Network, scratch: Path, options: ExportOptions, target: Target, say: Say, step: Step
) -> tuple[list[Candidate], list[Rejection], dict[str, float]]:
    """The candidates that are equal, in order of preference; why the others are not; and times if several are."""
    wanted = _wanted(options)
    total = len(wanted) + 2
    step(0, total, f"{options.stage}: asking the original")
    full = network
    if network.dtype != "float32":
        full = require("conch.deploy.export.modules").cast(network, "float32")
    dtype, threads = _dtype(network, options), options.threads or _cores()
    job = Job(network, full, dtype, expected_outputs(network), scratch, options, target, threads, say)
    sources, equal, rejected = OnnxSources(job), [], []
    for done, backend in enumerate(wanted, 1):
        step(done, total, f"{options.stage}: exporting for {backend} and comparing")
        try:
            _check_installed(backend, options)
            equal.append(_TRIES[backend](job, sources))
        except Rejected as error:
            rejected.append(error.rejection)
            say(f"{options.stage}: not {backend}: {error}")
    times: dict[str, float] = {}
    if len(equal) > 1:
        step(total - 1, total, f"{options.stage}: timing {len(equal)} engines")
        runners = {each.backend: each.runner for each in equal}
        times = time_runners(runners, network.samples[:_TIMED_SAMPLES])
    step(total, total, f"{options.stage}: exported")
    return equal, rejected, times


def _check_installed(backend: str, options: ExportOptions) -> None:
    extra = ("nncf",) if backend == "openvino" and options.quantize else ()
    missing = [name for name in (*_MODULES[backend], *extra) if importlib.util.find_spec(name) is None]
    if missing:
        raise Rejected(backend, "missing", f"not installed: pip install {' '.join(missing)}")


def _keep(
    best: Candidate,
    network: Network,
    directory: Path,
    options: ExportOptions,
    times: dict[str, float],
    rejected: tuple[Rejection, ...],
) -> Exported:
    """Move the files of the best to their place."""
    files = sorted(best.directory.iterdir())
    for file in files:
        shutil.move(file, directory / file.name)
    taken = set(best.runner.inputs)
    notes = best.notes
    if options.device == "cuda" and best.runner.device != "cuda":
        notes += (f"proved and timed on the CPU: {best.backend} finds no GPU here",)
    return Exported(
        backend=best.backend,
        platform=best.platform,
        files=tuple(file.name for file in files),
        inputs=tuple(spec for spec in network.inputs if spec.name in taken),
        outputs=network.outputs,
        dropped=tuple(spec.name for spec in network.inputs if spec.name not in taken),
        dtype=_dtype(network, options),
        opset=best.opset,
        proof=tuple(best.proof),
        times_ms=times,
        rejected=rejected,
        notes=notes,
    )


def _slower(backend: str, best: str, times: dict[str, float]) -> str:
    if times[backend] <= times[best]:
        return f"{times[backend]:.2f} ms a run, hardly faster than {best} with {times[best]:.2f} ms"
    return f"{times[backend]:.2f} ms a run, {best} takes {times[best]:.2f} ms"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
