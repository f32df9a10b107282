"""Business logic scripting, decoupled models, response senders."""

from __future__ import annotations

import json
from typing import Any

from ..messages import GrpcRequest, HttpRequest, Scenario
from .build import base64_text, get, infer, int32, rpc, scenarios, tensor


def ask(model: str, *numbers: int) -> HttpRequest:
    return infer(model, {"inputs": [tensor("IN", "INT32", [len(numbers)], list(numbers))]})


def call(*calls: list[Any]) -> HttpRequest:
    """Calls of the model `calls`; each answer is one element."""
    return infer("calls", {"inputs": [tensor("CALLS", "BYTES", [len(calls)], [json.dumps(each) for each in calls])]})


def at_once(*calls: str) -> HttpRequest:
    return infer("calls_async", {"inputs": [tensor("CALLS", "BYTES", [len(calls)], list(calls))]})


def asked(model: str, *numbers: int, empty_final: bool = True, **fields: Any) -> dict[str, Any]:
    message = {
        "model_name": model,
        "inputs": [{"name": "IN", "datatype": "INT32", "shape": [len(numbers)]}],
        "raw_input_contents": [base64_text(int32(numbers))],
        **fields,
    }
    if empty_final:
        message["parameters"] = {"triton_enable_empty_final_response": {"bool_param": True}}
    return message


def stream(*messages: dict[str, Any], **fields: Any) -> GrpcRequest:
    return rpc("ModelStreamInfer", *messages, **fields)


DECOUPLED: list[Scenario] = scenarios(
    metadata=get("/v2/models/repeat"),
    three=stream(asked("repeat", 1, 2, 3)),
    three_with_an_id=stream(asked("repeat", 1, 2, 3, id="me")),
    three_without_an_empty_final=stream(asked("repeat", 1, 2, 3, empty_final=False)),
    none_without_an_empty_final=stream(asked("repeat", empty_final=False), timeout_s=2.0),
    last_at_once=stream(asked("repeat", 1, -2)),
    last_at_once_without_an_empty_final=stream(asked("repeat", 1, -2, empty_final=False)),
    error_among_responses=stream(asked("repeat", 1, -1, 2, id="me")),
    raises_after_a_response=stream(asked("repeat", 1, -3, id="me")),
    raises_at_once=stream(asked("repeat", -3)),
    from_a_thread=stream(asked("later", 1, 2, 3)),
    two_requests=stream(asked("repeat", 1, 2, id="a"), asked("repeat", 3, id="b")),
    requests_of_a_coroutine_take_turns=stream(
        asked("turns", 0, 3, id="a"), asked("turns", 1, 3, id="b"), asked("turns", 2, 3, id="c")
    ),
    an_ordinary_model_with_an_empty_final=stream(asked("identity", 5)),
    over_a_unary_call=rpc("ModelInfer", asked("repeat", 1, empty_final=False)),
    over_http=ask("repeat", 1),
    what_a_sender_refuses=ask("answers", 1),
    what_a_decoupled_sender_refuses=stream(asked("twofold", 1)),
    an_unknown_output=stream(asked("repeat", 1, outputs=[{"name": "NO"}])),
)

CALLS: list[Scenario] = scenarios(
    in_initialize=call(["initialized"]),
    one=call(["exec", "identity", [1, 2]]),
    several=call(*[["exec", "identity", [number]] for number in range(5)]),
    an_ensemble=call(["exec", "pipeline", [3]]),
    an_unknown_model=call(["exec", "nope", [1]]),
    an_unknown_output=call(["exec", "identity", [1], "IN", ["NO"]]),
    an_unknown_input=call(["exec", "identity", [1], "NO"]),
    no_requested_output=call(["exec", "identity", [1], "IN", []]),
    a_model_that_answers_an_error=call(["exec", "identity", [-1]]),
    a_model_that_raises=call(["exec", "identity", [-2]]),
    an_ensemble_whose_step_fails=call(["exec", "pipeline", [-1]]),
    a_decoupled_model_for_one_response=call(["exec", "repeat", [1]]),
    a_decoupled_model=call(["stream", "repeat", [1, 2, 3]]),
    a_decoupled_model_that_says_only_the_end=call(["stream", "repeat", []]),
    a_decoupled_model_with_a_last_response=call(["stream", "repeat", [1, -2]]),
    a_decoupled_model_from_a_thread=call(["stream", "later", [1, 2]]),
    a_decoupled_model_read_twice=call(["twice", "repeat", [1, 2]]),
    an_ordinary_model_for_a_stream=call(["stream", "identity", [4]]),
    an_unknown_model_for_a_stream=call(["stream", "nope", [4]]),
    at_once=at_once("identity 1", "identity 2 3", "nope 4", "repeat 5 6"),
    a_call_within_a_call=call(["nested", "exec", "pipeline", [3]], ["nested", "stream", "repeat", [1, 2]]),
    errors_of_a_call_within_a_call=call(["nested", "exec", "nope", [1]], ["nested", "exec", "identity", [-1]]),
    readiness=call(
        ["is_model_ready", "identity"],
        ["is_model_ready", "identity", "1"],
        ["is_model_ready", "identity", "2"],
        ["is_model_ready", "nope"],
    ),
    loading=call(["load_model", "nope"], ["load_model", "identity"], ["unload_model", "nope"]),
)
