"""Warm-up of models: what an instance executes at its load, and what makes that fail."""

from __future__ import annotations

from typing import Any

from ..messages import HttpRequest, Scenario
from .build import get, infer, post, scenarios, settled, tensor

_LOADED = ("warmed", "in_sequence", "unknown_input", "file_too_long")
_FAILED = (
    "unbatched",
    "missing_input",
    "wrong_type",
    "wrong_shape",
    "no_data",
    "variable_size",
    "file_missing",
    "file_too_short",
    "batch_too_large",
    "model_fails",
    "model_raises",
)


def load(model: str) -> Scenario:
    return Scenario(f"load {model}", post(f"/v2/repository/models/{model}/load"))


def ask(model: str, **parameters: Any) -> HttpRequest:
    body: dict[str, Any] = {"inputs": [tensor("NUMBERS", "INT32", [1, 1], [5])]}
    return infer(model, body | ({"parameters": parameters} if parameters else {}))


WARM_UP = [
    *map(load, _LOADED),
    *scenarios(
        what_it_has_seen=ask("warmed"),
        what_a_sequence_has_seen=ask("in_sequence", sequence_id=1, sequence_start=True),
        what_a_model_without_such_an_input_has_seen=ask("unknown_input"),
        what_a_long_file_made=ask("file_too_long"),
    ),
    *settled(statistics=get("/v2/models/warmed/stats")),
    *map(load, _FAILED),
]
