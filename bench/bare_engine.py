"""An exported network in a loop, with nothing around it: `python -m bench.bare_engine PART images|texts`.

images: random pixels, the best of several batch sizes. texts: ready token ids of log-normal length, batches of 8 sorted
by length, and each text by itself. Prints one JSON object: inferences per second, of single texts also the median time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from conch.bench.sample_texts import text

_BATCHES = (1, 2, 4, 8)
_SECONDS = 4.0
_TEXTS = 256

Feed = dict[str, np.ndarray]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.bare_engine", description=__doc__.split("\n")[0])
    parser.add_argument("part", type=Path, help="directory of a model with an ONNX or OpenVINO file")
    parser.add_argument("kind", choices=("images", "texts"))
    parser.add_argument("--tokenizer", type=Path, help="directory of the model that makes the tokens")
    arguments = parser.parse_args()
    names, infer = _open(arguments.part / "1")
    if arguments.kind == "images":
        found = {f"batch {size}": _rate(infer, [_images(names, size)]) for size in _BATCHES}
    else:
        [tokenizer] = (arguments.tokenizer / "1").glob("tokenizer.json")
        found = {"batches of 8 sorted by length": _rate(infer, _texts(names, tokenizer, 8))}
    best = max(found.values())
    if arguments.kind == "texts":
        found["one text, median ms"] = _median_ms(infer, _texts(names, tokenizer, 1))
    print(json.dumps({**found, "best": best}))
    return 0


def _open(version: Path) -> tuple[dict[str, Sequence[Any]], Callable[[Feed], Any]]:
    """Input names with their shapes, and a call of the engine with all cores."""
    cores = len(os.sched_getaffinity(0))
    if (version / "model.onnx").exists():
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores
        session = onnxruntime.InferenceSession(str(version / "model.onnx"), options, providers=["CPUExecutionProvider"])
        return {each.name: each.shape for each in session.get_inputs()}, lambda feed: session.run(None, feed)
    import openvino

    core = openvino.Core()
    properties = {"INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(str(version / "model.xml"), "CPU", properties)
    request = compiled.create_infer_request()
    shapes = {next(iter(port.get_names())): list(port.get_partial_shape()) for port in compiled.inputs}
    return shapes, request.infer


def _images(shapes: dict[str, Sequence[Any]], batch: int) -> Feed:
    [(name, shape)] = shapes.items()
    dims = [int(str(dim)) for dim in shape[1:]]
    return {name: np.random.default_rng(0).standard_normal((batch, *dims), dtype=np.float32)}


def _texts(shapes: dict[str, Sequence[Any]], tokenizer_file: Path, batch: int) -> list[Feed]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    random = Random(0)
    encoded = sorted((tokenizer.encode(text(random)).ids for _ in range(_TEXTS)), key=len)
    feeds = []
    for start in range(0, _TEXTS, batch):
        group = encoded[start : start + batch]
        ids = np.zeros((len(group), len(group[-1])), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(group):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        every["normalize"] = np.ones((len(group), 1), bool)
        feeds.append({name: every[name] for name in shapes})
    return feeds


def _rate(infer: Callable[[Feed], Any], feeds: Sequence[Feed]) -> float:
    """Inferences per second over `_SECONDS`, all feeds in turn, whole turns only."""
    size = sum(len(next(iter(feed.values()))) for feed in feeds)
    for feed in feeds:
        infer(feed)
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < _SECONDS:
        for feed in feeds:
            infer(feed)
        done += size
    return done / (time.perf_counter() - started)


def _median_ms(infer: Callable[[Feed], Any], feeds: Sequence[Feed]) -> float:
    """What one inference takes, by the median of all feeds in turn over `_SECONDS`."""
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < _SECONDS:
        for feed in feeds:
            started = time.perf_counter()
            infer(feed)
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    sys.exit(main())
