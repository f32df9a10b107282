"""Ensembles with steps that answer any number of times, and how their responses are counted."""

from __future__ import annotations

import json
from typing import Any

from ..messages import GrpcRequest, HttpRequest, Scenario
from .build import base64_text, get, infer, int32, post, rpc, scenarios, settled, tensor

EMPTY_FINAL = {"triton_enable_empty_final_response": {"bool_param": True}}


def asked(model: str, *numbers: int, empty_final: bool = True, parameters: Any = None, **fields: Any) -> dict[str, Any]:
    """A message of one input."""
    return asked_with(model, {"IN": numbers}, empty_final=empty_final, parameters=parameters, **fields)


def asked_with(
    model: str,
    inputs: dict[str, tuple[int, ...]],
    *,
    empty_final: bool = True,
    parameters: Any = None,
    **fields: Any,
) -> dict[str, Any]:
    message = {
        "model_name": model,
        "inputs": [{"name": name, "datatype": "INT32", "shape": [len(numbers)]} for name, numbers in inputs.items()],
        "raw_input_contents": [base64_text(int32(numbers)) for numbers in inputs.values()],
        **fields,
    }
    parameters = {**(parameters or {}), **(EMPTY_FINAL if empty_final else {})}
    if parameters:
        message["parameters"] = parameters
    return message


def stream(*messages: dict[str, Any], **fields: Any) -> GrpcRequest:
    return rpc("ModelStreamInfer", *messages, **fields)


def generate(model: str, *numbers: int, stream: bool = True) -> HttpRequest:
    return post(f"/v2/models/{model}/generate{'_stream' if stream else ''}", {"IN": list(numbers)})


def call(model: str, *numbers: int, decoupled: bool = True) -> HttpRequest:
    """A call of that model by another one."""
    text = json.dumps([model, decoupled, numbers])
    return infer("caller", {"inputs": [tensor("CALL", "BYTES", [1], [text])]})


def wants(*names: str) -> list[dict[str, str]]:
    return [{"name": name} for name in names]


MIXED = ("beside", "joined_with_input", "joined_with_other", "two_sources", "two_sources_apart")
SEQUENCE = {
    "sequence_id": {"int64_param": 7},
    "sequence_start": {"bool_param": True},
    "sequence_end": {"bool_param": True},
}

ANSWERS: list[Scenario] = scenarios(
    index=post("/v2/repository/index"),
    metadata=get("/v2/models/first"),
    config=get("/v2/models/first/config"),
    ready=get("/v2/models/first/ready"),
    config_of_an_undeclared_one=get("/v2/models/undeclared/config"),
    config_of_one_that_is_ordinary=get("/v2/models/ordinary/config"),
    config_over_gRPC=rpc("ModelConfig", {"name": "undeclared"}),
    alone=stream(asked("alone", 1, 2, 3, id="me")),
    alone_without_an_empty_final=stream(asked("alone", 1, 2, empty_final=False)),
    alone_of_nothing=stream(asked("alone")),
    alone_of_nothing_without_an_empty_final=stream(asked("alone", empty_final=False), timeout_s=2.0),
    alone_with_the_last_at_once=stream(asked("alone", 1, -2)),
    alone_with_only_the_last=stream(asked("alone", -2)),
    alone_with_an_error_first=stream(asked("alone", -1, 1, id="me")),
    alone_with_an_error_in_the_middle=stream(asked("alone", 1, -1, 2, id="me")),
    alone_with_an_error_at_the_end=stream(asked("alone", 1, -1, id="me")),
    alone_that_raises=stream(asked("alone", 1, -3, id="me")),
    alone_with_an_empty_response=stream(asked("alone", 1, -4, 2)),
    first=stream(asked("first", 1, 2, -2, id="me")),
    first_without_an_empty_final=stream(asked("first", 1, -2, empty_final=False)),
    first_of_one=stream(asked("first", -2)),
    first_of_many=stream(asked("first", *range(20, 50), -2)),
    first_of_nothing=stream(asked("first")),
    first_with_an_error_in_the_middle=stream(asked("first", -1, id="me")),
    first_whose_next_step_answers_an_error=stream(asked("first", 5, id="me")),
    first_whose_next_step_raises=stream(asked("first", 6, id="me")),
    first_with_an_empty_response=stream(asked("first", -4)),
    from_a_thread=stream(asked("from_a_thread", 1, 2, -2)),
    from_a_thread_with_an_error=stream(asked("from_a_thread", -1)),
    last=stream(asked("last", 1, 2, 3)),
    last_whose_first_step_fails=stream(asked("last", 5)),
    twice=stream(asked("twice", 1, 2, 3)),
    twice_of_several=stream(asked("twice", 100, 200)),
    twice_with_the_last_at_once=stream(asked("twice", 1, -2)),
    between=stream(asked("between", 1, 2, -12)),
    ordinary_declared_decoupled=stream(asked("ordinary", 1)),
    ordinary_declared_decoupled_without_an_empty_final=stream(asked("ordinary", 1, empty_final=False)),
    ordinary_declared_decoupled_that_fails=stream(asked("ordinary", 5)),
    nested=stream(asked("nested", 1, 2, -2, id="me")),
    nested_of_nothing=stream(asked("nested")),
    nested_that_fails=stream(asked("nested", 5, id="me")),
    diamond=stream(asked("diamond", 1, 2, -2)),
    inner_tensor_as_output=stream(asked("inner_as_output", 1, -2)),
    inner_tensor_alone=stream(asked("inner_as_output", 1, -2, outputs=wants("PART"))),
    last_output_alone=stream(asked("inner_as_output", 1, -2, outputs=wants("OUT"))),
    joined_with_the_input=stream(asked("joined_with_input", 1)),
    outputs_at_a_time=stream(asked("apart", 0, 0)),
    outputs_one_by_one=stream(asked("apart", 2, 1, 4, 3)),
    outputs_of_which_one_never_comes=stream(asked("apart", 2, 4)),
    outputs_one_by_one_joined=stream(asked("apart_joined", 2, 1, 4, 3)),
    parameters=stream(asked("seen_last", 1, -2, id="me", parameters={"top_k": {"int64_param": 3}})),
    sequence=stream(asked("seen_last", 1, -2, parameters=SEQUENCE)),
    two_requests=stream(asked("last", 1, 2, id="a"), asked("last", 3, id="b")),
    an_unknown_output=stream(asked("first", 1, outputs=wants("NO"))),
    an_unknown_input=stream(asked_with("first", {"NO": (1,)})),
    over_http=infer("first", {"inputs": [tensor("IN", "INT32", [1], [1])]}),
    over_a_unary_call=rpc("ModelInfer", asked("first", 1, empty_final=False)),
    undeclared=stream(asked("undeclared", 1, -2)),
    undeclared_over_http=infer("undeclared", {"inputs": [tensor("IN", "INT32", [1], [1])]}),
    undeclared_around_another=stream(asked("nested_undeclared", 1, -2)),
    ordinary_over_http=infer("ordinary", {"inputs": [tensor("IN", "INT32", [1], [1])]}),
    generated=generate("first", 1, 2),
    generated_from_nothing=generate("first"),
    generated_with_an_error=generate("first", 5),
    generated_at_once=generate("first", 1, stream=False),
    generated_at_once_of_several=generate("first", 1, 2, stream=False),
    called=call("first", 1, -2),
    called_for_nothing=call("first"),
    called_that_fails=call("first", 5),
    called_for_one_response=call("first", 1, decoupled=False),
    called_that_is_ordinary=call("ordinary", 1),
    called_nested=call("nested", 1, -2),
)

#: Ensembles that would bring responses of different steps together.
LOADS: list[Scenario] = scenarios(
    **{f"load_{model}": post(f"/v2/repository/models/{model}/load") for model in MIXED},
    load_first=post("/v2/repository/models/first/load"),
    load_undeclared=post("/v2/repository/models/undeclared/load"),
    index=post("/v2/repository/index"),
)

LOADED = scenarios(
    load_repeat=post("/v2/repository/models/repeat/load"),
    load_later=post("/v2/repository/models/later/load"),
    load_first=post("/v2/repository/models/first/load"),
    before_any_request=get("/v2/models/repeat/stats"),
)

STATISTICS: list[Scenario] = [
    *LOADED,
    *scenarios(three=stream(asked("repeat", 1, 2, 3))),
    *scenarios(one=stream(asked("repeat", 1))),
    *settled(of_both=get("/v2/models/repeat/stats"), of_both_over_gRPC=rpc("ModelStatistics", {"name": "repeat"})),
    *scenarios(nothing=stream(asked("repeat"))),
    *settled(of_nothing=get("/v2/models/repeat/stats")),
    *scenarios(last_at_once=stream(asked("repeat", 1, -2))),
    *settled(of_the_last_at_once=get("/v2/models/repeat/stats")),
    *scenarios(error_in_the_middle=stream(asked("repeat", 1, -1, 2))),
    *settled(of_an_error_in_the_middle=get("/v2/models/repeat/stats")),
    *scenarios(empty_in_the_middle=stream(asked("repeat", 1, -4, 2))),
    *settled(of_an_empty_one_in_the_middle=get("/v2/models/repeat/stats")),
    *scenarios(raises=stream(asked("repeat", 1, -3))),
    *settled(of_one_that_raises=get("/v2/models/repeat/stats")),
    *scenarios(from_a_thread=stream(asked("later", 1, -1, 2))),
    *settled(of_a_thread=get("/v2/models/later/stats")),
    *scenarios(given_up=stream(asked("later", 1, -5), timeout_s=1.0)),
    *settled(of_one_given_up=get("/v2/models/later/stats")),
    *scenarios(ensemble=stream(asked("first", 1, -2))),
    *settled(
        of_an_ensemble=get("/v2/models/first/stats"),
        of_its_first_step=get("/v2/models/repeat/stats"),
        of_its_last_step=get("/v2/models/plus/stats"),
    ),
    *scenarios(ensemble_of_nothing=stream(asked("first")), ensemble_that_fails=stream(asked("first", 5))),
    *settled(of_an_ensemble_that_fails=get("/v2/models/first/stats")),
    *settled(of_an_ordinary_model=get("/v2/models/plus/stats"), over_gRPC=rpc("ModelStatistics", {"name": "first"})),
]
