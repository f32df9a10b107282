"""What approach 2 gains: `python -m bench.approaches DIRECTORY [NAME ...]`.

Each workload deploys a model by both approaches, serves them side by side and compares, in rounds that take turns:

    clip      CLIP of ViT-B/32's size, random weights: one 640x480 JPEG and 10 labels a request, concurrency 8
    minilm    sentence embeddings of texts of 3 to 128 words (--minilm: a checkpoint of all-MiniLM-L6-v2)
    vit       image classification, ViT-B/16's size, random weights: one JPEG a request, concurrency 8
    whisper   speech recognition, Whisper tiny's size, random weights: 3 s of sound a request, concurrency 4
    steps     an ensemble of three identity networks against one of one: what a step costs

Beside them stands the bare engine: the exported network in a loop, on ready tensors, with nothing around it. With
TRITON in the environment (as for `python -m bench`) the same repository also runs there; a Triton without the ONNX
Runtime backend gets a Python model in its place that runs the same file (`bench.stand_in`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import environment
from bench.clip import save_checkpoint as save_clip
from bench.stand_in import replace_engines
from bench.whisper import save_checkpoint as save_whisper
from bench.whisper import sounds
from conch.bench.comparison import Column, Plan, compare
from conch.bench.comparison_report import document, tell
from conch.bench.figures import Setting
from conch.bench.measure import Duration
from conch.bench.prepare import Order
from conch.bench.processes import CONCH, Subject, running
from conch.bench.samples import Wishes
from conch.bench.sweep import Progress

_START_LIMIT_S = 300.0


class Workload(msgspec.Struct, frozen=True):
    """One model, deployed in several ways.

    Attributes:
        checkpoint: makes it in a directory (or says where it is).
        task: of the deploy.
        ways: suffix of the model's name -> flags of `conch deploy`; the first is what the others are compared with.
        concurrency: the settings of the closed loop.
        bare: suffix of the part whose network is measured bare, and what its inputs are ("images", "texts").
        peers: ways that also run on Triton.
        given: the requests, if they are not those that the load generator makes for the task.
    """

    checkpoint: Callable[[Path], Path]
    task: str
    ways: dict[str, tuple[str, ...]]
    concurrency: tuple[int, ...]
    bare: tuple[str, str] | None = None
    peers: tuple[str, ...] = ()
    given: Callable[[], Sequence[dict[str, Any]]] = tuple


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.approaches", description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path, help="where checkpoints and models are kept; made once")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run: clip, minilm, vit, whisper, steps")
    parser.add_argument("--minilm", type=Path, help="checkpoint of all-MiniLM-L6-v2; without it minilm is left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one measurement (default 6)")
    parser.add_argument("--json", type=Path, help="also write the results with machine and versions to this file")
    arguments = parser.parse_args()
    workloads = _workloads(arguments.minilm)
    names = arguments.names or [name for name in workloads if name != "minilm" or arguments.minilm]
    results: dict[str, Any] = {}
    for name in names:
        if name not in workloads or (name == "minilm" and arguments.minilm is None):
            parser.error(f"cannot run '{name}': there are {', '.join(workloads)}; minilm needs --minilm CHECKPOINT")
        results[name] = run(name, workloads[name], arguments.directory, arguments.rounds, arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps({"environment": environment.describe(), "results": results}, indent=2))
    return 0


def _workloads(minilm: Path | None) -> dict[str, Workload]:
    ensemble = ("--approach=ensemble",)
    return {
        "clip": Workload(
            lambda directory: _once(directory / "clip", save_clip),
            "zero-shot-image-classification",
            {"pipeline": (), "ensemble": ensemble, "int8": (*ensemble, "--quantize=int8")},
            (8,),
            ("image_encoder", "images"),
        ),
        "minilm": Workload(
            lambda directory: minilm or directory,
            "sentence-embedding",
            {"pipeline": (), "ensemble": (*ensemble, "--backend=onnxruntime")},
            (1, 32),
            ("core", "texts"),
            ("ensemble",),
        ),
        "vit": Workload(
            lambda directory: _once(directory / "vit", save_vit),
            "image-classification",
            {"pipeline": (), "ensemble": (*ensemble, "--backend=onnxruntime")},
            (8,),
            None,
            ("ensemble",),
        ),
        "whisper": Workload(
            lambda directory: _once(directory / "whisper", save_whisper),
            "automatic-speech-recognition",
            {"pipeline": (), "ensemble": (*ensemble, "--backend=onnxruntime")},
            (4,),
            given=sounds,
        ),
        "steps": Workload(lambda directory: directory, "", {}, (1,)),
    }


def run(name: str, workload: Workload, directory: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure one workload and print its tables."""
    repository = directory / "models"
    if name == "steps":
        models = _write_steps(repository)
        deployed_s: dict[str, float] = {}
    else:
        checkpoint = workload.checkpoint(directory / "checkpoints")
        models, deployed_s = _deploy(name, workload, checkpoint, repository)
    subjects = [Subject(model, repository, model, CONCH) for model in models]
    triton = os.environ.get("TRITON")
    for way in workload.peers if triton else ():
        model = f"{name}-{way}"
        stand_in = replace_engines(repository, model, directory / f"stand-in-{name}")
        # Triton is told to serve everything there: the repository holds this model only.
        subjects.append(Subject(f"{model} on Triton", stand_in, model, str(triton)))
    columns = _compare(subjects, workload, rounds, seconds)
    print(f"\n## {name}\n\n{tell(columns)}")
    result: dict[str, Any] = {"models": document(columns), "deployed_s": deployed_s}
    if workload.bare is not None:
        suffix, kind = workload.bare
        result["bare"] = _bare(
            repository / f"{name}-ensemble_{suffix}", kind, repository / f"{name}-ensemble_preprocess"
        )
        print(f"bare engine: {result['bare']}")
    return result


def save_vit(directory: Path) -> None:
    """ViT-B/16 for 1000 classes with its processor."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(num_labels=1000)).save_pretrained(directory)
    ViTImageProcessorPil().save_pretrained(directory)


def _once(directory: Path, save: Callable[[Path], None]) -> Path:
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        save(directory)
    return directory


def _deploy(
    name: str, workload: Workload, checkpoint: Path, repository: Path
) -> tuple[Sequence[str], dict[str, float]]:
    """The models' names, and how many seconds those took that were not there yet."""
    models, seconds = [], {}
    for way, flags in workload.ways.items():
        model = f"{name}-{way}"
        models.append(model)
        if not (repository / model).exists():
            started = time.monotonic()
            command = [sys.executable, "-m", "conch", "deploy", str(checkpoint), f"--task={workload.task}"]
            command += [f"--name={model}", f"--model-repository={repository}", *flags]
            subprocess.run(command, check=True)
            seconds[model] = time.monotonic() - started
    return models, seconds


def _compare(subjects: Sequence[Subject], workload: Workload, rounds: int, seconds: float) -> list[Column]:
    settings = [Setting(concurrency=each) for each in workload.concurrency]
    plan = Plan("http", settings, Duration(seconds=seconds, warmup_s=2.0), rounds)
    silent = Progress(lambda setting: None, lambda passed_s: None)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(subject, _START_LIMIT_S)) for subject in subjects]
        order = Order(Wishes(count=128), workload.given())
        return asyncio.run(compare(servers, plan, lambda target: order, lambda label: silent))


def _bare(part: Path, kind: str, preprocess: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.bare_engine", str(part), kind]
    if kind == "texts":
        command.append(f"--tokenizer={preprocess}")
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def _write_steps(repository: Path) -> list[str]:
    """Ensembles of one and three identity networks."""
    import onnx
    from onnx import TensorProto, helper

    shape = ["batch", 16]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["IN"], ["OUT"])],
        "identity",
        [helper.make_tensor_value_info("IN", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("OUT", TensorProto.FLOAT, shape)],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    tensors = 'input [ { name: "IN" data_type: TYPE_FP32 dims: [ 16 ] } ]\n'
    tensors += 'output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 16 ] } ]\n'
    names = []
    for count in (1, 3):
        steps = []
        for index in range(count):
            part = f"steps-{count}_{index}"
            version = repository / part / "1"
            version.mkdir(parents=True, exist_ok=True)
            onnx.save(network, str(version / "model.onnx"))
            config = f'name: "{part}"\nbackend: "onnxruntime"\nmax_batch_size: 8\n{tensors}'
            (repository / part / "config.pbtxt").write_text(config)
            source = "IN" if index == 0 else f"T{index}"
            target = "OUT" if index == count - 1 else f"T{index + 1}"
            steps.append(
                f'{{ model_name: "{part}" model_version: -1 input_map {{ key: "IN" value: "{source}" }} '
                f'output_map {{ key: "OUT" value: "{target}" }} }}'
            )
        name = f"steps-{count}"
        (repository / name / "1").mkdir(parents=True, exist_ok=True)
        config = f'name: "{name}"\nplatform: "ensemble"\nmax_batch_size: 8\n{tensors}'
        (repository / name / "config.pbtxt").write_text(
            config + f"ensemble_scheduling {{ step [ {', '.join(steps)} ] }}\n"
        )
        names.append(name)
    return names


if __name__ == "__main__":
    sys.exit(main())
