"""Request parameters over HTTP, as the model sees them."""

from __future__ import annotations

from typing import Any

from ..messages import HttpRequest
from .build import infer, scenarios, tensor


def told(parameters: Any = None, **changes: Any) -> HttpRequest:
    """A request to `params`, which answers what it was told."""
    body: dict[str, Any] = {"inputs": [tensor("INPUT0", "INT32", [1], [1])], **changes}
    if parameters is not None:
        body["parameters"] = parameters
    return infer("params", body)


SCENARIOS = scenarios(
    nothing=told(),
    no_parameters=told({}),
    every_type=told({"text": "häß", "whole": -7, "yes": True, "no": False, "real": 1.5}),
    large_numbers=told({"a": 2**63 - 1, "b": -(2**63)}),
    number_beyond_int64=told({"a": 2**63}),
    whole_float=told({"a": 2.0}),
    empty_text=told({"a": ""}),
    empty_name=told({"": "a"}),
    unicode_name=told({"naïve": 1}),
    nested_object=told({"a": {"b": 1}}),
    nested_list=told({"a": [1]}),
    null_value=told({"a": None}),
    reserved_prefix=told({"triton_something": 1}),
    final_response_prefix=told({"triton_enable_empty_final_response": True}),
    parameters_is_a_list=told([1]),
    parameters_is_a_string=told("a"),
    parameters_is_null=infer("params", {"inputs": [tensor("INPUT0", "INT32", [1], [1])], "parameters": None}),
    id=told(id="request 7"),
    timeout=told({"timeout": 5000000}),
    timeout_as_text=told({"timeout": "5"}),
    timeout_negative=told({"timeout": -1}),
    timeout_as_float=told({"timeout": 1.5}),
    priority=told({"priority": 1}),
    priority_as_text=told({"priority": "1"}),
    priority_negative=told({"priority": -1}),
    priority_too_large=told({"priority": 99}),
    headers_parameter=told({"headers": "a"}),
    sequence_id=told({"sequence_id": 7, "sequence_start": True}),
    sequence_id_as_text=told({"sequence_id": "seven", "sequence_start": True, "sequence_end": True}),
    sequence_id_of_the_wrong_type=told({"sequence_id": 1.5}),
    sequence_id_negative=told({"sequence_id": -1}),
    sequence_start_of_the_wrong_type=told({"sequence_start": "yes"}),
    sequence_end=told({"sequence_end": True}),
    binary_data_output_is_not_passed_on=told({"binary_data_output": False, "a": 1}),
    one_requested_output=told(outputs=[{"name": "REQUESTED"}]),
    two_requested_outputs=told(outputs=[{"name": "REQUESTED"}, {"name": "FLAGS"}]),
    response_of_a_forwarded_header=infer(
        "params", {"inputs": [tensor("INPUT0", "INT32", [1], [1])]}, headers={"X-Custom": "not forwarded"}
    ),
)
