"""What to type next: how to serve a deployed model and how to call it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from conch.deploy.plan import Plan
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_TEXTS = {
    "text": ("The wind came in from the sea.", "A red boat lay in the harbour."),
    "query": ("What lay in the harbour?",),
    "question": ("What is the total?",),
    "candidate_labels": ("travel", "cooking"),
}
_LABELS = ("a photo of a cat", "a photo of a dog")
_FILES = {"image": "photo.jpg", "audio": "sound.wav", "video": "clip.mp4"}
_JSON_TEXTS = {
    "table": {"thing": ["boat", "kite"], "price": ["900", "12"]},
    "request": {"state": "Where is my parcel?", "questions": {"late": {"type": "noul"}}},
}


def serve_command(repository: Path) -> str:
    return f"conch serve --model-repository {shlex.quote(str(repository))}"


def infer_command(plan: Plan) -> str:
    """`conch infer` with every required input; for a model that answers piece by piece, a stream over HTTP."""
    if plan.choices.stream:
        (text,) = (value for spec in _asked(plan) for value in _values(plan, spec))
        body = json.dumps({"text": text}, ensure_ascii=False)
        return f"curl -sN localhost:8000/v2/models/{plan.name}/generate_stream -d {shlex.quote(body)}"
    words = ["conch", "infer", plan.name]
    for spec in _asked(plan):
        for value in _values(plan, spec):
            words += ["-i", f"{spec.name}={value}"]
    return shlex.join(words)


def curl_command(plan: Plan) -> str:
    """The same with curl, media as base64; "" where the input is an array of numbers, or where
    `infer_command` is one already."""
    if plan.choices.stream:
        return ""
    inputs: list[dict[str, Any]] = []
    for spec in _asked(plan):
        if spec.datatype is not DataType.BYTES:
            return ""
        values = _values(plan, spec)
        if spec.name in _FILES:
            values = [f"$(base64 -w0 {value})" for value in values]
        shape = [1, len(values)] if plan.max_batch_size > 0 else [len(values)]
        inputs.append({"name": spec.name, "shape": shape, "datatype": "BYTES", "data": values})
    body = json.dumps({"inputs": inputs}, ensure_ascii=False)
    url = f"localhost:8000/v2/models/{plan.name}/infer"
    if any(spec.name in _FILES for spec in _asked(plan)):  # too long for an argument
        return f"curl -s {url} -d @- <<END\n{body}\nEND"
    return f"curl -s {url} -d {shlex.quote(body)}"


def _asked(plan: Plan) -> list[TensorSpec]:
    """The inputs an example names: the required ones, and a prompt where all are optional."""
    asked = [spec for spec in plan.inputs if not spec.optional]
    names = {"image-text-to-text": ("text", "image"), "document-question-answering": ("question", "image")}
    wanted = names.get(plan.task.name, () if asked else ("text",))
    return [spec for spec in plan.inputs if spec in asked or spec.name in wanted]


def _values(plan: Plan, spec: TensorSpec) -> list[str]:
    if spec.datatype is not DataType.BYTES:
        return [f"{spec.name}.npy"]
    if spec.name in _FILES:
        return [_FILES[spec.name]] * (2 if spec.dims == (2,) else 1)
    if spec.name in _JSON_TEXTS:
        return [json.dumps(_JSON_TEXTS[spec.name])]
    many = spec.dims == (-1,)
    if many and spec.name == "text" and plan.task.name != "text-ranking":
        return list(_LABELS)
    texts = list(_TEXTS.get(spec.name, ("...",)))
    if plan.task.name == "fill-mask":
        texts = ["The sea is [MASK]."]
    return texts if many else texts[:1]
