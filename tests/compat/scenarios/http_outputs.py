"""Requested outputs and the classification extension over HTTP."""

from __future__ import annotations

from typing import Any

from ..messages import HttpRequest
from .build import infer, scenarios, simple, tensor

SCORES = [[0.1, 0.7, 0.05, 0.15], [0.25, 0.25, 0.5, 0.0], [3.0, 2.0, 1.0, 4.0]]


def outputs(*described: Any, **changes: Any) -> HttpRequest:
    return infer("simple", simple(outputs=list(described), **changes))


def output(name: str, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "parameters": parameters} if parameters else {"name": name}


def classify(*described: dict[str, Any], rows: int = 1, **changes: Any) -> HttpRequest:
    scores = tensor("SCORES", "FP32", [rows, 4], SCORES[:rows])
    return infer("labels", {"inputs": [scores], "outputs": list(described), **changes})


REQUESTED = scenarios(
    first_output=outputs(output("OUTPUT0")),
    second_output=outputs(output("OUTPUT1")),
    both_outputs=outputs(output("OUTPUT0"), output("OUTPUT1")),
    both_outputs_in_other_order=outputs(output("OUTPUT1"), output("OUTPUT0")),
    one_output_twice=outputs(output("OUTPUT0"), output("OUTPUT0")),
    no_outputs=outputs(),
    unknown_output=outputs(output("NOPE")),
    unknown_output_beside_a_good_one=outputs(output("OUTPUT0"), output("NOPE")),
    unknown_output_with_an_id=outputs(output("NOPE"), id="abc"),
    outputs_is_an_object=infer("simple", simple(outputs={})),
    outputs_is_null=infer("simple", simple(outputs=None)),
    outputs_of_strings=outputs("OUTPUT0"),
    output_without_a_name=outputs({"parameters": {}}),
    output_whose_name_is_a_number=outputs({"name": 1}),
    output_with_unknown_parameters=outputs(output("OUTPUT0", anything=[1])),
    output_whose_parameters_are_a_list=outputs({"name": "OUTPUT0", "parameters": []}),
    one_output_as_binary=outputs(output("OUTPUT0", binary_data=True), output("OUTPUT1")),
    second_output_as_binary=outputs(output("OUTPUT0"), output("OUTPUT1", binary_data=True)),
    both_outputs_as_binary=outputs(output("OUTPUT0", binary_data=True), output("OUTPUT1", binary_data=True)),
    outputs_asked_not_to_be_binary=outputs(output("OUTPUT0", binary_data=False)),
    binary_data_of_the_wrong_type=outputs(output("OUTPUT0", binary_data="yes")),
    binary_data_as_a_number=outputs(output("OUTPUT0", binary_data=1)),
    all_outputs_as_binary=infer("simple", simple(parameters={"binary_data_output": True})),
    all_outputs_as_binary_with_an_id=infer("simple", simple(id="abc", parameters={"binary_data_output": True})),
    all_outputs_asked_not_to_be_binary=infer("simple", simple(parameters={"binary_data_output": False})),
    binary_data_output_of_the_wrong_type=infer("simple", simple(parameters={"binary_data_output": "yes"})),
    binary_data_output_beside_outputs=outputs(output("OUTPUT0"), parameters={"binary_data_output": True}),
    binary_data_output_beside_no_outputs=outputs(parameters={"binary_data_output": True}),
    strings_as_binary=infer(
        "one_string",
        {"inputs": [tensor("TEXT", "BYTES", [2, 1], ["a", "bc"])], "outputs": [output("BYTES_READ", binary_data=True)]},
    ),
    no_elements_as_binary=infer(
        "zero_size",
        {"inputs": [tensor("INPUT0", "FP32", [1, 0, 2], [])], "parameters": {"binary_data_output": True}},
    ),
)

CLASSIFICATION = scenarios(
    best_class=classify(output("LABELLED", classification=1)),
    best_two_classes=classify(output("LABELLED", classification=2)),
    all_classes_the_last_without_a_label=classify(output("LABELLED", classification=4)),
    more_classes_than_there_are=classify(output("LABELLED", classification=10)),
    classes_without_labels=classify(output("PLAIN", classification=2)),
    classes_of_a_batch=classify(output("LABELLED", classification=2), rows=3),
    classes_of_integers=classify(output("WHOLE", classification=2), rows=3),
    classes_with_ties=classify(output("LABELLED", classification=3), rows=2),
    classes_of_two_outputs=classify(output("LABELLED", classification=1), output("PLAIN", classification=1)),
    classes_beside_a_plain_output=classify(output("LABELLED", classification=1), output("PLAIN")),
    classes_as_binary=classify(output("LABELLED", classification=2, binary_data=True), rows=2),
    classes_beside_a_binary_output=classify(output("LABELLED", classification=1), output("PLAIN", binary_data=True)),
    zero_classes=classify(output("LABELLED", classification=0)),
    minus_one_class=classify(output("LABELLED", classification=-1)),
    number_of_classes_as_a_string=classify(output("LABELLED", classification="2")),
    number_of_classes_as_a_float=classify(output("LABELLED", classification=1.5)),
    classes_of_strings=classify(output("TEXT", classification=1)),
    classes_without_batches=infer(
        "nobatch",
        {
            "inputs": [tensor("INPUT0", "FP32", [2, 3], [1, 2, 3, 4, 5, 6])],
            "outputs": [output("OUTPUT0", classification=2), output("SUM", classification=1)],
        },
    ),
    classes_of_no_elements=infer(
        "zero_size",
        {"inputs": [tensor("INPUT0", "FP32", [1, 0, 2], [])], "outputs": [output("OUTPUT0", classification=1)]},
    ),
)

SCENARIOS = REQUESTED + CLASSIFICATION
