"""Inference over gRPC with raw contents, one request a call and over a stream."""

from __future__ import annotations

from typing import Any

from ..messages import GrpcRequest, Scenario
from .build import COUNT, ONES, base64_text, byte_strings, fp32, int32, rpc, scenarios


def described(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def message(model: str = "simple", raw: list[bytes] | None = None, **changes: Any) -> dict[str, Any]:
    """A good request to `simple`; `raw` and keyword arguments replace parts of it."""
    parts = [int32(COUNT), int32(ONES)] if raw is None else raw
    return {
        "model_name": model,
        "inputs": [described("INPUT0", "INT32", [1, 16]), described("INPUT1", "INT32", [1, 16])],
        "raw_input_contents": [base64_text(part) for part in parts],
        **changes,
    }


def call(*args: Any, **changes: Any) -> GrpcRequest:
    return rpc("ModelInfer", message(*args, **changes))


def one(model: str, name: str, datatype: str, shape: list[int], raw: bytes, **changes: Any) -> GrpcRequest:
    """A request to a model with a single input."""
    return call(model, [raw], inputs=[described(name, datatype, shape)], **changes)


def told(**parameters: dict[str, Any]) -> GrpcRequest:
    """A request to `params`, which answers what it was told."""
    return one("params", "INPUT0", "INT32", [1], int32([1]), id="request 7", parameters=parameters)


def stream(*messages: dict[str, Any], **fields: Any) -> GrpcRequest:
    return rpc("ModelStreamInfer", *messages, **fields)


def classify(name: str, classes: dict[str, Any], rows: int = 1) -> GrpcRequest:
    return one(
        "labels",
        "SCORES",
        "FP32",
        [rows, 4],
        fp32([0.1, 0.7, 0.05, 0.15] * rows),
        outputs=[{"name": name, "parameters": {"classification": classes}}],
    )


GOOD = scenarios(
    raw_contents=call(),
    version=call(model_version="1"),
    id=call(id="request 7"),
    compressed=rpc("ModelInfer", message(), compression="gzip"),
    batch_of_two=call(
        raw=[int32(COUNT * 2), int32(ONES * 2)],
        inputs=[described("INPUT0", "INT32", [2, 16]), described("INPUT1", "INT32", [2, 16])],
    ),
    inputs_in_other_order=call(
        raw=[int32(ONES), int32(COUNT)],
        inputs=[described("INPUT1", "INT32", [1, 16]), described("INPUT0", "INT32", [1, 16])],
    ),
    one_output=call(outputs=[{"name": "OUTPUT1"}]),
    outputs_in_other_order=call(outputs=[{"name": "OUTPUT1"}, {"name": "OUTPUT0"}]),
    one_output_twice=call(outputs=[{"name": "OUTPUT0"}, {"name": "OUTPUT0"}]),
    strings=one("one_string", "TEXT", "BYTES", [2, 1], byte_strings(b"abc", b"\xff\x00")),
    fp16=one("every_datatype", "IN_FP16", "FP16", [1, 2], b"\x00\x3c\x00\xc0"),
    bf16=one("every_datatype", "IN_BF16", "BF16", [1, 2], b"\x80\x3f\x00\xc0"),
    no_elements=one("zero_size", "INPUT0", "FP32", [1, 0, 2], b""),
    no_batch=one("nobatch", "INPUT0", "FP32", [2, 2], fp32([1, 2, 3, 4])),
    parameters_of_every_type=told(
        text={"string_param": "häß"},
        whole={"int64_param": "-7"},
        yes={"bool_param": True},
        real={"double_param": 1.5},
        unsigned={"uint64_param": "7"},
    ),
    parameter_without_a_value=told(a={}),
    timeout=told(timeout={"int64_param": "5000000"}),
    timeout_as_text=told(timeout={"string_param": "5"}),
    timeout_as_unsigned=told(timeout={"uint64_param": "5"}),
    priority=told(priority={"int64_param": "1"}),
    priority_as_unsigned=told(priority={"uint64_param": "1"}),
    priority_negative=told(priority={"int64_param": "-1"}),
    priority_as_text=told(priority={"string_param": "1"}),
    sequence=told(sequence_id={"int64_param": "7"}, sequence_start={"bool_param": True}),
    sequence_as_text=told(sequence_id={"string_param": "seven"}, sequence_end={"bool_param": True}),
    sequence_id_of_the_wrong_type=told(sequence_id={"bool_param": True}),
    sequence_start_of_the_wrong_type=told(sequence_start={"string_param": "yes"}),
    reserved_prefix=told(triton_something={"int64_param": "1"}),
    empty_final_response_asked_for=told(triton_enable_empty_final_response={"bool_param": True}),
    empty_final_response_asked_for_with_the_wrong_type=told(triton_enable_empty_final_response={"string_param": "x"}),
    classes=classify("LABELLED", {"int64_param": "2"}),
    classes_of_a_batch=classify("LABELLED", {"int64_param": "2"}, rows=2),
    classes_without_labels=classify("PLAIN", {"int64_param": "2"}),
    more_classes_than_there_are=classify("LABELLED", {"int64_param": "9"}),
    zero_classes=classify("LABELLED", {"int64_param": "0"}),
    minus_one_class=classify("LABELLED", {"int64_param": "-1"}),
    classes_as_text=classify("LABELLED", {"string_param": "2"}),
    classes_of_strings=classify("TEXT", {"int64_param": "1"}),
)

BAD = scenarios(
    empty_message=rpc("ModelInfer"),
    unknown_model=call("nope"),
    unknown_version=call(model_version="7"),
    version_that_is_no_number=call(model_version="x"),
    no_inputs=call(raw=[], inputs=[]),
    one_input_missing=call(raw=[int32(COUNT)], inputs=[described("INPUT0", "INT32", [1, 16])]),
    one_input_missing_with_an_id=call(raw=[int32(COUNT)], inputs=[described("INPUT0", "INT32", [1, 16])], id="abc"),
    one_input_too_many=call(
        raw=[int32(COUNT)] * 3,
        inputs=[described(name, "INT32", [1, 16]) for name in ("INPUT0", "INPUT1", "INPUT2")],
    ),
    one_input_misnamed=call(inputs=[described("INPUT0", "INT32", [1, 16]), described("OTHER", "INT32", [1, 16])]),
    one_input_twice=call(inputs=[described("INPUT0", "INT32", [1, 16])] * 2),
    nameless_input=call(inputs=[described("", "INT32", [1, 16]), described("INPUT1", "INT32", [1, 16])]),
    wrong_datatype=call(inputs=[described("INPUT0", "FP32", [1, 16]), described("INPUT1", "INT32", [1, 16])]),
    unknown_datatype=call(inputs=[described("INPUT0", "INT33", [1, 16]), described("INPUT1", "INT32", [1, 16])]),
    no_datatype=call(inputs=[described("INPUT0", "", [1, 16]), described("INPUT1", "INT32", [1, 16])]),
    shape_without_batch=call(inputs=[described("INPUT0", "INT32", [16]), described("INPUT1", "INT32", [16])]),
    shape_empty=call(inputs=[described("INPUT0", "INT32", []), described("INPUT1", "INT32", [1, 16])]),
    shape_negative=call(inputs=[described("INPUT0", "INT32", [-1, 16]), described("INPUT1", "INT32", [1, 16])]),
    shape_of_other_width=call(
        raw=[int32(COUNT[:8]), int32(ONES)],
        inputs=[described("INPUT0", "INT32", [1, 8]), described("INPUT1", "INT32", [1, 16])],
    ),
    batch_too_large=one("identity_fp32", "INPUT0", "FP32", [9, 1], fp32(ONES[:9])),
    batch_sizes_differ=call(
        raw=[int32(COUNT * 2), int32(ONES)],
        inputs=[described("INPUT0", "INT32", [2, 16]), described("INPUT1", "INT32", [1, 16])],
    ),
    raw_contents_too_short=call(raw=[int32(COUNT[:15]), int32(ONES)]),
    raw_contents_too_long=call(raw=[int32([*COUNT, 16]), int32(ONES)]),
    raw_contents_empty=call(raw=[b"", int32(ONES)]),
    raw_contents_for_one_input_only=call(raw=[int32(COUNT)]),
    raw_contents_for_three_inputs=call(raw=[int32(COUNT)] * 3),
    no_contents_at_all=call(raw=[]),
    text_with_too_few_elements=one("one_string", "TEXT", "BYTES", [2, 1], byte_strings(b"abc")),
    text_with_too_many_elements=one("one_string", "TEXT", "BYTES", [1, 1], byte_strings(b"abc", b"d")),
    text_with_too_long_a_length=one("one_string", "TEXT", "BYTES", [1, 1], b"\xff\x00\x00\x00abc"),
    unknown_output=call(outputs=[{"name": "NOPE"}]),
    nameless_output=call(outputs=[{}]),
    output_with_unknown_parameters=call(outputs=[{"name": "OUTPUT0", "parameters": {"a": {"int64_param": "1"}}}]),
    input_with_unknown_parameters=call(
        inputs=[
            described("INPUT0", "INT32", [1, 16]) | {"parameters": {"a": {"string_param": "b"}}},
            described("INPUT1", "INT32", [1, 16]),
        ]
    ),
)

STREAMS = [
    *scenarios(
        stream_of_one=stream(message(id="1")),
        stream_of_three=stream(*[message(id=str(number)) for number in range(3)]),
        stream_of_nothing=GrpcRequest("ModelStreamInfer"),
        stream_with_an_error_between=stream(message(id="1"), message("nope", id="2"), message(id="3")),
        stream_with_a_bad_input=stream(message(id="1", raw=[int32(COUNT)])),
        stream_with_an_unknown_version=stream(message(id="1", model_version="7")),
        stream_with_an_unknown_output=stream(message(id="1", outputs=[{"name": "NOPE"}])),
        stream_asking_for_an_empty_final_response=stream(
            message(id="1", parameters={"triton_enable_empty_final_response": {"bool_param": True}})
        ),
        stream_with_a_reserved_parameter=stream(message(id="1", parameters={"triton_a": {"bool_param": True}})),
        stream_of_gzip=stream(message(id="1"), compression="gzip"),
        grpc_error_on_a_good_stream=stream(message(id="1"), metadata={"triton_grpc_error": "true"}),
        grpc_error_on_a_bad_stream=stream(message("nope", id="1"), metadata={"triton_grpc_error": "true"}),
        grpc_error_on_a_bad_input=stream(message(raw=[int32(COUNT)]), metadata={"triton_grpc_error": "true"}),
        grpc_error_switched_off=stream(message("nope", id="1"), metadata={"triton_grpc_error": "false"}),
        grpc_error_of_a_model=stream(
            {
                "model_name": "error_model",
                "inputs": [described("MODE", "BYTES", [1])],
                "raw_input_contents": [base64_text(byte_strings(b"NOT_FOUND"))],
            },
            metadata={"triton_grpc_error": "true"},
        ),
        stream_with_an_error_of_a_model=stream(
            {
                "model_name": "error_model",
                "id": "9",
                "inputs": [described("MODE", "BYTES", [1])],
                "raw_input_contents": [base64_text(byte_strings(b"NOT_FOUND"))],
            }
        ),
    ),
    Scenario("stream with a message that cannot be parsed", GrpcRequest("ModelStreamInfer", raw=b"\xff"), ["details"]),
]

SCENARIOS = GOOD + BAD + STREAMS
