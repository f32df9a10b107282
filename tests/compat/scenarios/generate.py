"""The generate endpoints: keys to inputs and parameters, one answer or a stream of events."""

from __future__ import annotations

import json
from typing import Any

from ..messages import Concurrent, HttpRequest, Scenario
from .build import COUNT, ONES, get, post, scenarios


def generate(model: str, body: Any, *, stream: bool = False, **fields: Any) -> HttpRequest:
    return post(f"/v2/models/{model}/generate{'_stream' if stream else ''}", body, **fields)


def both(**named: tuple[str, Any]) -> list[Scenario]:
    """Each request to `generate` and to `generate_stream`."""
    asked: dict[str, Any] = {}
    for name, (model, body) in named.items():
        asked[name] = generate(model, body)
        asked[f"{name}_as_a_stream"] = generate(model, body, stream=True)
    return scenarios(**asked)


def shapes(**named: Any) -> list[Scenario]:
    """Bodies for the model `shapes`; text is sent as it is."""
    return scenarios(**{name: generate("shapes", body) for name, body in named.items()})


def twice(first: str, second: str) -> str:
    """An object with a key twice."""
    return f'{{"FLAG": true, {first}, {second}}}'


EVERY_INPUT = {
    "FLAG": True,
    "WORDS": ["a", "b"],
    "FREE": [1, 2, 3],
    "FIXED": [1, 2, 3, 4],
    "ROWS": [1, 2, 3, 4, 5, 6],
    "PLANE": [1, 2, 3, 4],
    "WIDE": 5,
}

MAPPING: list[Scenario] = [
    *both(
        nothing=("shapes", {}),
        every_input=("shapes", EVERY_INPUT),
        an_id=("shapes", {"FLAG": True, "id": "seven"}),
        an_id_that_is_no_string=("shapes", {"FLAG": True, "id": 5}),
        a_list_for_a_parameter=("shapes", {"FLAG": True, "a": [1]}),
        an_unknown_model=("nope", {}),
        an_unknown_model_and_no_JSON=("nope", "["),
        a_batched_model=("batched", {"TEXT": "hi"}),
        a_missing_input=("batched", {}),
        an_ensemble=("composed", {"QUESTION": "hi"}),
        an_ensemble_with_id=("composed", {"QUESTION": "hi", "id": "z", "x": 1}),
    ),
    *shapes(
        nested_arrays_of_another_shape={"FIXED": [[1, 2], [3, 4]]},
        nested_arrays_of_one_element_each={"FIXED": [[1], [2], [3], [4]]},
        too_few_for_a_fixed_shape={"FIXED": [1, 2, 3]},
        one_for_a_fixed_shape={"FIXED": 1},
        a_scalar_for_a_variable_shape={"FREE": 1.5},
        an_empty_array={"FREE": []},
        an_empty_array_for_rows={"ROWS": []},
        one_for_rows={"ROWS": 5},
        two_for_rows={"ROWS": [1, 2]},
        two_for_one={"WIDE": [1, 2]},
        none_for_one={"FLAG": []},
        an_array_of_arrays={"FREE": [[1], [2]]},
        an_array_within_an_array={"FREE": [[1, 2]]},
        text_for_a_number={"FREE": "x"},
        an_object_for_a_number={"FREE": {"a": 1}},
        a_number_for_a_flag={"FLAG": 1},
        null_for_a_flag={"FLAG": None},
        one_word={"WORDS": "one"},
        no_words={"WORDS": []},
        a_number_for_a_word={"WORDS": [1]},
        an_object_for_a_word={"WORDS": {"a": "b"}},
        words_in_an_array={"WORDS": [["a", "b"]]},
        words_in_two_arrays={"WORDS": [["a"], ["b"]]},
        words_and_an_array={"WORDS": ["a", ["b", "c"]]},
        half_precision={"HALF": [1.0]},
        negative_for_unsigned={"WIDE": -1},
        the_largest_unsigned={"WIDE": 2**64 - 1},
        not_a_number='{"FREE": [NaN, Infinity, -Infinity]}',
        not_a_number_alone='{"FREE": NaN}',
        a_number_too_big='{"FREE": [1e400]}',
    ),
    *shapes(
        parameters_of_every_type={"FLAG": True, "a": 1, "b": "x", "c": True, "d": 1.5},
        an_object_for_a_parameter={"FLAG": True, "a": {"x": 1}},
        null_for_a_parameter={"FLAG": True, "a": None},
        a_parameter_without_a_name={"FLAG": True, "": 1},
        an_integer_beyond_64_bits={"FLAG": True, "x": 12345678901234567890},
        a_reserved_parameter={"FLAG": True, "triton_x": 1},
        parameters_with_a_meaning_elsewhere={
            "FLAG": True,
            "priority": 2,
            "timeout": 100,
            "sequence_id": 7,
            "sequence_start": True,
            "sequence_end": True,
        },
        a_priority_that_is_no_number={"FLAG": True, "priority": "x"},
        binary_data_output={"FLAG": True, "binary_data_output": True},
        outputs={"FLAG": True, "outputs": [{"name": "ECHO"}]},
        inner_parameters_and_inputs={"FLAG": True, "parameters": {"p": 1, "WORDS": "w"}},
        inner_id={"FLAG": True, "parameters": {"id": "inner"}},
        inner_parameter_again={"FLAG": True, "parameters": {"x": 1}, "x": 3},
        an_inner_object={"FLAG": True, "parameters": {"q": {"z": 1}}},
        an_inner_input_again={"FLAG": True, "parameters": {"FLAG": False}},
        parameters_within_parameters={"FLAG": True, "parameters": {"parameters": {"x": 1}}},
        parameters_that_are_a_number={"FLAG": True, "parameters": 1},
        parameters_that_are_null={"FLAG": True, "parameters": None},
        parameters_that_are_an_array={"FLAG": True, "parameters": []},
        no_inner_parameters={"FLAG": True, "parameters": {}},
        the_first_error_counts={"x": [1], "FLAG": 1},
        the_first_error_counts_also_in_parameters={"parameters": {"x": [1]}, "FLAG": 1},
        an_error_before_one_in_parameters={"FLAG": 1, "parameters": {"x": [1]}},
        the_id_is_read_first={"FLAG": 1, "id": 5},
        an_input_twice=twice('"WIDE": 1', '"WIDE": 2'),
        an_input_twice_with_id=twice('"WIDE": 1, "WIDE": 2', '"id": "me"'),
        an_input_named_in_a_value={"FLAG": True, "x": "FLAG", "WORDS": ["FLAG", "WORDS"]},
    ),
    *shapes(
        no_body="",
        no_JSON="[",
        an_array="[1]",
        a_string='"x"',
        null="null",
        something_behind='{"FLAG": true} x',
    ),
    *scenarios(
        a_version=generate("shapes/versions/1", {"FLAG": True}),
        an_unknown_version=generate("shapes/versions/9", {"FLAG": True}),
        two_rows=generate("batched", {"TEXT": ["a", "b"]}),
        a_row_and_numbers=generate("batched", {"TEXT": "hi", "NUMBERS": [1, 2, 3]}),
        a_matrix_for_a_row=generate("batched", {"TEXT": "hi", "NUMBERS": [[1, 2], [3, 4]]}),
        more_rows_than_a_batch=generate("batched", {"TEXT": ["a", "b", "c", "d", "e"]}),
        batch_sizes_differ=generate("batched", {"TEXT": ["a", "b"], "NUMBERS": [1, 2]}),
        bytes_that_are_no_text=HttpRequest("POST", "/v2/models/shapes/generate", text='{"WORDS": "', binary=b'\xff"}'),
        a_compressed_body=generate("shapes", {"FLAG": True}, headers={"Content-Encoding": "gzip"}),
        no_compression=generate("shapes", {"FLAG": True}, headers={"Content-Encoding": "identity"}),
        a_compressed_answer=generate("shapes", {"FLAG": True}, headers={"Accept-Encoding": "gzip"}),
        a_length_of_the_head=generate("shapes", {"FLAG": True}, headers={"Inference-Header-Content-Length": "5"}),
        wrong_method=get("/v2/models/shapes/generate"),
        wrong_method_of_a_stream=get("/v2/models/shapes/generate_stream"),
    ),
]


def llm(**body: Any) -> tuple[str, Any]:
    return "llm", {"PROMPT": "p", **body}


DECOUPLED: list[Scenario] = both(
    no_response=llm(COUNT=0),
    one_response=llm(COUNT=1),
    one_response_that_is_the_last=llm(COUNT=-1),
    three_responses=llm(COUNT=3),
    three_responses_with_id=llm(COUNT=3, id="q"),
    the_first_fails=llm(COUNT=3, FAIL_AT=0),
    the_second_fails=llm(COUNT=3, FAIL_AT=1),
    the_only_one_fails=llm(COUNT=1, FAIL_AT=0),
    the_only_one_that_is_the_last_fails=llm(COUNT=-1, FAIL_AT=0),
    a_decoupled_model_without_an_input=llm(),
)


def fail(mode: str) -> tuple[str, Any]:
    return "error_model", {"MODE": mode}


MODELS: list[Scenario] = [
    *both(
        an_error_of_the_model=fail("INTERNAL"),
        an_error_about_the_request=fail("INVALID_ARG"),
        an_exception=fail("raise"),
        arrays_in_the_answer=("simple", {"INPUT0": COUNT, "INPUT1": ONES}),
        one_for_sixteen=("simple", {"INPUT0": 1, "INPUT1": 1}),
        a_boolean=("every_datatype", {"IN_BOOL": True}),
        datatypes=("every_datatype", {"IN_INT8": [1, 300], "IN_BYTES": ["x", "y"], "IN_FP64": [0.5, 2]}),
    ),
    *scenarios(
        what_a_model_sees=generate("params", {"INPUT0": 1, "id": "x", "sequence_id": 5, "timeout": 7, "priority": 1}),
    ),
    Scenario(
        "a full queue",
        Concurrent([generate("slow", json.dumps({"SECONDS": 1.0}), stream=number > 1) for number in range(4)], 0.2),
    ),
]
