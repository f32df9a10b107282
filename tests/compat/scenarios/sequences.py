"""Sequences: controls, correlation ids, start and end, slots and backlog, time-outs, iterative sequences."""

from __future__ import annotations

from typing import Any

from ..messages import Concurrent, GrpcRequest, HttpRequest, Scenario
from .build import base64_text, get, infer, int32, post, rpc, scenarios, settled, tensor

START = {"sequence_start": True}
END = {"sequence_end": True}


def ask(model: str, number: int, sequence: int | str | None = None, **parameters: Any) -> HttpRequest:
    if sequence is not None:
        parameters["sequence_id"] = sequence
    shape = [1] if model == "no_batch" else [1, 1]
    body: dict[str, Any] = {"id": "r", "inputs": [tensor("INPUT", "INT32", shape, [number])]}
    return infer(model, body | ({"parameters": parameters} if parameters else {}))


def message(model: str, number: int, sequence: int | str, **flags: bool) -> dict[str, Any]:
    named = {"string_param": sequence} if isinstance(sequence, str) else {"int64_param": str(sequence)}
    return {
        "model_name": model,
        "inputs": [{"name": "INPUT", "datatype": "INT32", "shape": [1, 1]}],
        "parameters": {"sequence_id": named} | {key: {"bool_param": value} for key, value in flags.items()},
        "raw_input_contents": [base64_text(int32([number]))],
    }


def whole(model: str, sequence: int | str) -> list[HttpRequest]:
    return [ask(model, 1, sequence, **START), ask(model, 2, sequence), ask(model, 3, sequence, **END)]


def steps(model: str, sequence: int | str) -> list[Scenario]:
    """A sequence of three requests, one after the other, and a fourth that comes too late."""
    named = [*whole(model, sequence), ask(model, 4, sequence)]
    return [Scenario(f"{model} {sequence} {number}", request) for number, request in enumerate(named, start=1)]


def stream(*messages: dict[str, Any]) -> GrpcRequest:
    return rpc("ModelStreamInfer", *messages)


ANSWERS = [
    *scenarios(
        metadata_without_controls=get("/v2/models/direct"),
        config=get("/v2/models/oldest/config"),
        config_without_strategy=get("/v2/models/no_strategy/config"),
        no_sequence=ask("direct", 1),
        sequence_zero=ask("direct", 1, 0, **START),
        sequence_without_a_name=ask("direct", 1, "", **START),
        not_started=ask("direct", 1, 7),
        not_started_but_ended=ask("oldest", 1, 7, **END),
        named_and_not_started=ask("no_strategy", 1, "seven"),
        a_batch=infer(
            "direct", {"inputs": [tensor("INPUT", "INT32", [2, 1], [1, 2])], "parameters": {"sequence_id": 7} | START}
        ),
        a_batch_of_no_sequence=infer("oldest", {"inputs": [tensor("INPUT", "INT32", [2, 1], [1, 2])]}),
        a_control_given=infer(
            "direct",
            {
                "inputs": [tensor("INPUT", "INT32", [1, 1], [1]), tensor("START", "INT32", [1, 1], [1])],
                "parameters": {"sequence_id": 7} | START,
            },
        ),
    ),
    *steps("direct", 7),
    *steps("oldest", 2**32 + 7),
    *steps("no_strategy", "seven"),
    *steps("no_batch", 2**31 + 7),
    *steps("texts", "seven"),
    *steps("brief", 2**64 - 1),
    *scenarios(
        all_at_once=ask("direct", 5, 9, **START, **END),
        started_twice_1=ask("direct", 5, 10, **START),
        started_twice_2=ask("direct", 6, 10, **START),
        started_twice_3=ask("direct", 7, 10, **END),
        a_name_where_the_model_takes_numbers=ask("direct", 5, "ten", **START, **END),
        a_number_where_the_model_takes_names=ask("texts", 5, 10, **START, **END),
        iterative=ask("iterative", 3),
        iterative_once=ask("iterative", 1),
        iterative_of_a_sequence=ask("iterative", 2, 7, **START),
        iterative_not_started=ask("iterative", 2, 8),
        iterative_started_and_ended=ask("iterative", 2, 9, **START, **END),
        iterative_oldest=ask("iterative_oldest", 3),
        over_a_stream=stream(
            message("oldest", 1, 21, sequence_start=True),
            message("oldest", 2, 21),
            message("oldest", 3, 21, sequence_end=True),
        ),
        over_a_stream_with_an_error=stream(message("oldest", 1, 22), message("oldest", 2, 22, sequence_start=True)),
        over_a_stream_goes_on=stream(message("oldest", 3, 22, sequence_end=True)),
        unary=rpc("ModelInfer", message("no_strategy", 1, "over gRPC", sequence_start=True)),
        unary_not_started=rpc("ModelInfer", message("no_strategy", 1, "another")),
    ),
    # `brief` has one slot, and ends a sequence that is idle for 0.4 s.
    Scenario(
        "backlog",
        Concurrent([ask("brief", 1, 31, **START), *whole("brief", 32), ask("brief", 3, 31, **END)], interval_s=0.05),
    ),
    Scenario(
        "backlog for too long",
        Concurrent(
            [ask("brief", 1, 33, **START), ask("brief", 2, 34, **START, timeout=50000), ask("brief", 3, 33, **END)],
            interval_s=0.15,
        ),
    ),
    Scenario("idle", Concurrent([ask("brief", 1, 35, **START), ask("brief", 2, 35)], interval_s=1.2)),
]

STATISTICS = [
    *scenarios(
        first=ask("direct", 1, 1, **START), second=ask("direct", 1, 2, **START), after_a_gap=ask("direct", 2, 2)
    ),
    *scenarios(refused=ask("direct", 1, 3), failed=ask("direct", 1)),
    *settled(statistics=get("/v2/models/direct/stats")),
]

_BROKEN = (
    "utilization_too_large",
    "both_strategies",
    "control_without_values",
    "no_candidates",
    "initial_state_file_missing",
    "initial_state_file_too_short",
    "initial_state_of_another_type",
    "initial_state_of_another_rank",
    "initial_state_of_another_shape",
)
REFUSED = [
    Scenario(name.replace("_", " "), post(f"/v2/repository/models/{name}/load"), settle=False) for name in _BROKEN
]
