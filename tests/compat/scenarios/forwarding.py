"""Headers that become request parameters: which ones, of which calls, and what the model sees."""

from __future__ import annotations

from typing import Any

from ..messages import GrpcRequest, HttpRequest, Scenario
from .build import infer, post, rpc, scenarios, tensor

PATTERN = "^x-|Special|^triton_|^timeout$|^sequence"

#: The flags of the server these are sent to.
FLAGS = (
    "--model-control-mode=explicit",
    "--load-model=params",
    f"--http-header-forward-pattern={PATTERN}",
    f"--grpc-header-forward-pattern={PATTERN}",
)


def over_http(headers: dict[str, str], **parameters: Any) -> HttpRequest:
    body: dict[str, Any] = {"inputs": [tensor("INPUT0", "INT32", [1], [1])]}
    if parameters:
        body["parameters"] = parameters
    return infer("params", body, headers=headers)


def over_grpc(metadata: dict[str, str], method: str = "ModelInfer", **parameters: Any) -> GrpcRequest:
    message: dict[str, Any] = {
        "model_name": "params",
        "inputs": [{"name": "INPUT0", "datatype": "INT32", "shape": [1], "contents": {"int_contents": [1]}}],
        "parameters": {name: {"string_param": value} for name, value in parameters.items()},
    }
    return rpc(method, message, metadata=metadata)


SCENARIOS: list[Scenario] = scenarios(
    no_header_that_matches=over_http({"Another": "1"}),
    a_header=over_http({"x-one": "1"}),
    several_headers=over_http({"x-one": "1", "x-two": "two words", "Another": "3"}),
    names_keep_their_case=over_http({"X-One": "1", "x-TWO": "2"}),
    in_the_middle_of_the_name=over_http({"my-special-header": "1"}),
    an_empty_value=over_http({"x-empty": ""}),
    a_value_that_looks_like_a_number=over_http({"x-number": "5"}),
    beside_parameters=over_http({"x-one": "1"}, two=2),
    a_parameter_of_the_same_name=over_http({"x-one": "header"}, **{"x-one": "parameter"}),
    a_reserved_name=over_http({"triton_thing": "1"}),
    a_name_that_has_a_meaning=over_http({"timeout": "5000000"}),
    a_sequence=over_http({"sequence_id": "7", "sequence_start": "1"}),
    generate=post("/v2/models/params/generate", {"INPUT0": 1}, headers={"x-one": "1"}),
    no_metadata_that_matches=over_grpc({"another": "1"}),
    a_metadatum=over_grpc({"x-one": "1"}),
    several_metadata=over_grpc({"x-one": "1", "x-two": "two words", "another": "3"}),
    a_pattern_in_another_case=over_grpc({"my-special-header": "1"}),
    an_empty_metadatum=over_grpc({"x-empty": ""}),
    metadata_beside_parameters=over_grpc({"x-one": "1"}, two="2"),
    metadata_and_a_parameter_of_the_same_name=over_grpc({"x-one": "metadata"}, **{"x-one": "parameter"}),
    metadata_of_a_reserved_name=over_grpc({"triton_thing": "1"}),
    metadata_of_a_name_that_has_a_meaning=over_grpc({"timeout": "5000000"}),
    metadata_of_a_sequence=over_grpc({"sequence_id": "7", "sequence_start": "1"}),
    metadata_of_a_stream=over_grpc({"x-one": "1"}, "ModelStreamInfer"),
)
