"""The binary tensor extension over HTTP, and raw binary requests."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from ..messages import HttpRequest, Scenario
from .build import COUNT, ONES, byte_strings, fp32, infer, infer_binary, int32, scenarios, simple, tensor

BOTH = int32(COUNT) + int32(ONES)
HALVES = {"FP16": np.array([1.5, -2, 65504], np.float16).tobytes(), "BF16": b"\xc0\x3f\x00\xc0\x80\x7f"}


def pair(first: Any = 64, second: Any = 64, **changes: Any) -> dict[str, Any]:
    """A request to `simple` with both inputs in binary, of the sizes given."""
    inputs = [
        tensor("INPUT0", "INT32", [1, 16], binary_data_size=first),
        tensor("INPUT1", "INT32", [1, 16], binary_data_size=second),
    ]
    return {"inputs": inputs, **changes}


def raw(model: str, body: bytes, **headers: str) -> HttpRequest:
    return infer_binary(model, "", body, header="0", headers={k.replace("_", "-"): v for k, v in headers.items()})


def text(shape: list[int], tail: bytes) -> HttpRequest:
    return infer_binary("one_string", {"inputs": [tensor("TEXT", "BYTES", shape, binary_data_size=len(tail))]}, tail)


def each_datatype() -> list[Scenario]:
    """Every datatype in binary, answered in binary."""
    tails = {
        name: np.array([0, 1, 2], dtype).tobytes()
        for name, dtype in [
            ("BOOL", np.bool_),
            ("UINT8", np.uint8),
            ("UINT16", np.uint16),
            ("UINT32", np.uint32),
            ("UINT64", np.uint64),
            ("INT8", np.int8),
            ("INT16", np.int16),
            ("INT32", np.int32),
            ("INT64", np.int64),
            ("FP32", np.float32),
            ("FP64", np.float64),
        ]
    }
    tails |= HALVES | {"BYTES": byte_strings(b"", b"\xff\x00", b"text")}
    return [
        Scenario(
            f"{datatype} {'in binary' if binary else 'answered as JSON'}",
            infer_binary(
                "every_datatype",
                {
                    "inputs": [tensor(f"IN_{datatype}", datatype, [1, 3], binary_data_size=len(tail))],
                    "parameters": {"binary_data_output": binary},
                },
                tail,
            ),
        )
        for datatype, tail in tails.items()
        for binary in (True, False)
    ]


SCENARIOS = [
    *each_datatype(),
    *scenarios(
        both_inputs=infer_binary("simple", pair(), BOTH),
        both_inputs_both_outputs=infer_binary("simple", pair(parameters={"binary_data_output": True}), BOTH),
        with_content_type=infer_binary("simple", pair(), BOTH, headers={"Content-Type": "application/octet-stream"}),
        with_json_content_type=infer_binary("simple", pair(), BOTH, headers={"Content-Type": "application/json"}),
        in_chunks=infer_binary("simple", pair(), BOTH, chunked=50),
        header_without_binary=infer_binary("simple", simple(), b""),
        mixed_with_json=infer_binary(
            "simple",
            simple(inputs=[tensor("INPUT0", "INT32", [1, 16], binary_data_size=64), simple()["inputs"][1]]),
            int32(COUNT),
        ),
        json_first_then_binary=infer_binary(
            "simple",
            simple(inputs=[simple()["inputs"][0], tensor("INPUT1", "INT32", [1, 16], binary_data_size=64)]),
            int32(ONES),
        ),
        batch_of_two=infer_binary(
            "simple",
            {
                "inputs": [
                    tensor("INPUT0", "INT32", [2, 16], binary_data_size=128),
                    tensor("INPUT1", "INT32", [2, 16], binary_data_size=128),
                ],
                "parameters": {"binary_data_output": True},
            },
            int32(COUNT * 2) + int32(ONES * 2),
        ),
        no_elements=infer_binary(
            "zero_size", {"inputs": [tensor("INPUT0", "FP32", [1, 0, 2], binary_data_size=0)]}, b""
        ),
        special_floats=infer_binary(
            "identity_fp32",
            {
                "inputs": [tensor("INPUT0", "FP32", [1, 3], binary_data_size=12)],
                "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": True}}],
            },
            fp32([float("nan"), float("inf"), float("-inf")]),
        ),
        not_a_number_as_json=infer_binary(
            "identity_fp32", {"inputs": [tensor("INPUT0", "FP32", [1, 1], binary_data_size=4)]}, fp32([float("nan")])
        ),
        infinity_as_json=infer_binary(
            "identity_fp32", {"inputs": [tensor("INPUT0", "FP32", [1, 1], binary_data_size=4)]}, fp32([float("inf")])
        ),
        bool_bytes_other_than_one=infer_binary(
            "every_datatype",
            {"inputs": [tensor("IN_BOOL", "BOOL", [1, 3], binary_data_size=3)]},
            b"\x00\x02\xff",
        ),
        too_short_by_one_element=infer_binary("simple", pair(), BOTH[:-4]),
        too_short_by_an_input=infer_binary("simple", pair(), BOTH[:64]),
        nothing_after_the_json=infer_binary("simple", pair(), b""),
        too_long=infer_binary("simple", pair(), BOTH + b"\0\0\0\0"),
        bytes_without_an_input_for_them=infer_binary("simple", simple(), b"\0\0\0\0"),
        first_size_wrong=infer_binary("simple", pair(60, 68), BOTH),
        second_size_wrong=infer_binary("simple", pair(64, 60), BOTH[:-4]),
        size_zero=infer_binary("simple", pair(0, 64), BOTH[:64]),
        size_negative=infer_binary("simple", pair(-64, 64), BOTH),
        size_as_a_string=infer_binary("simple", pair("64", 64), BOTH),
        size_as_a_float=infer_binary("simple", pair(64.0, 64), BOTH),
        size_as_a_bool=infer_binary("simple", pair(True, 64), BOTH),
        size_null=infer_binary("simple", pair(None, 64), BOTH),
        size_huge=infer_binary("simple", pair(2**40, 64), BOTH),
        size_beyond_int64=infer_binary("simple", pair(2**64, 64), BOTH),
        size_and_data=infer_binary(
            "simple",
            simple(inputs=[tensor("INPUT0", "INT32", [1, 16], COUNT, binary_data_size=64), simple()["inputs"][1]]),
            int32(ONES),
        ),
        size_without_the_header=infer("simple", pair(), binary=BOTH),
        size_without_header_or_bytes=infer("simple", pair()),
        wrong_datatype=infer_binary(
            "identity_fp32", {"inputs": [tensor("INPUT0", "FP64", [1, 1], binary_data_size=8)]}, b"\0" * 8
        ),
        fp16_of_odd_size=infer_binary(
            "every_datatype", {"inputs": [tensor("IN_FP16", "FP16", [1, 2], binary_data_size=3)]}, b"\0" * 3
        ),
        header_too_large=infer_binary("simple", pair(), BOTH, header="99999"),
        header_negative=infer_binary("simple", pair(), BOTH, header="-1"),
        header_no_number=infer_binary("simple", pair(), BOTH, header="abc"),
        header_number_and_words=infer_binary("simple", simple(), b"", header=f"{len(json.dumps(simple()))}abc"),
        header_empty=infer_binary("simple", simple(), b"", header=""),
        header_too_small=infer_binary("simple", pair(), BOTH, header="100"),
        header_beyond_int32=infer_binary("simple", pair(), BOTH, header="4294967296"),
        header_with_an_empty_body=infer_binary("simple", "", b"", header="10"),
        text_in_binary=text([2, 1], byte_strings(b"abc", b"")),
        text_with_too_few_elements=text([2, 1], byte_strings(b"abc")),
        text_with_too_many_elements=text([1, 1], byte_strings(b"abc", b"d")),
        text_without_a_whole_length=text([2, 1], byte_strings(b"abc") + b"\x01\x00"),
        text_with_a_length_alone=text([1, 1], struct.pack("<I", 3)),
        text_with_too_long_a_length=text([1, 1], struct.pack("<I", 300) + b"abc"),
        text_with_a_huge_length=text([1, 1], b"\xff\xff\xff\xffabc"),
        text_of_no_bytes=text([1, 1], b""),
        raw_floats=raw("identity_fp32", fp32([1, 2.5, 3])),
        raw_floats_of_odd_size=raw("identity_fp32", b"\0" * 7),
        raw_floats_of_no_bytes=raw("identity_fp32", b""),
        raw_text=raw("one_string", b"just these bytes"),
        raw_text_of_no_bytes=raw("one_string", b""),
        raw_to_several_inputs=raw("simple", BOTH),
        raw_to_several_variable_dimensions=raw("zero_size", fp32([1, 2, 3, 4])),
        raw_to_a_model_without_batches=raw("nobatch", fp32([1, 2, 3, 4])),
        raw_to_a_fixed_shape=raw("labels", fp32([1, 2, 3, 4])),
        raw_to_a_fixed_shape_too_short=raw("labels", fp32([1, 2, 3])),
        raw_to_a_fixed_shape_too_long=raw("labels", fp32([1, 2, 3, 4, 5])),
        raw_to_an_unknown_model=raw("nope", b"x"),
        raw_to_optional_inputs=raw("every_datatype", b"x"),
        raw_to_a_number=raw("params", int32([5])),
    ),
]
