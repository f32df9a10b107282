"""`batch_input` and `batch_output` of Python models: what is wrong with them is told, and what is right is in vain."""

from __future__ import annotations

from ..messages import MODELS_DIRECTORY, HttpRequest, Scenario
from .build import get, infer, post, scenarios, tensor

MODELS = sorted(path.name for path in (MODELS_DIRECTORY / "batch_tensors").iterdir())


def ask(*values: float) -> HttpRequest:
    return infer("in_vain", {"inputs": [tensor("INPUT0", "FP32", [1, len(values)], list(values))]})


LOADS = [
    *(Scenario(f"load {model}", post(f"/v2/repository/models/{model}/load")) for model in MODELS),
    *scenarios(metadata=get("/v2/models/in_vain"), config=get("/v2/models/in_vain/config"), answer=ask(1, 2, 3)),
]
