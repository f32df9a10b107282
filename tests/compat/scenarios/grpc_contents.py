"""Inference over gRPC with typed contents."""

from __future__ import annotations

from typing import Any

from ..messages import GrpcRequest, Scenario
from .build import COUNT, ONES, base64_text, int32, rpc, scenarios

VALUES: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False, True]),
    "UINT8": ("uint_contents", [0, 1, 255]),
    "UINT16": ("uint_contents", [0, 1, 65535]),
    "UINT32": ("uint_contents", [0, 1, 2**32 - 1]),
    "UINT64": ("uint64_contents", ["0", "1", str(2**64 - 1)]),
    "INT8": ("int_contents", [-128, 1, 127]),
    "INT16": ("int_contents", [-(2**15), 1, 2**15 - 1]),
    "INT32": ("int_contents", [-(2**31), 1, 2**31 - 1]),
    "INT64": ("int64_contents", [str(-(2**63)), "1", str(2**63 - 1)]),
    "FP32": ("fp32_contents", [0.5, -1.5, 3.0]),
    "FP64": ("fp64_contents", [0.1, -1.5, 1e300]),
    "BYTES": ("bytes_contents", [base64_text("a"), base64_text(b"\xff\x00"), base64_text("")]),
}


def typed(datatype: str, contents: dict[str, list[Any]], shape: list[int] | None = None) -> GrpcRequest:
    """A request to `every_datatype` with these contents."""
    described = {"name": f"IN_{datatype}", "datatype": datatype, "shape": shape or [1, 3], "contents": contents}
    return rpc("ModelInfer", {"model_name": "every_datatype", "inputs": [described]})


def pair(first: dict[str, Any], second: dict[str, Any], raw: list[bytes]) -> GrpcRequest:
    """A request to `simple`; the keywords of each input go beside its name, datatype and shape."""
    described = {"datatype": "INT32", "shape": [1, 16]}
    inputs = [{"name": "INPUT0", **described, **first}, {"name": "INPUT1", **described, **second}]
    contents = [base64_text(part) for part in raw]
    return rpc("ModelInfer", {"model_name": "simple", "inputs": inputs, "raw_input_contents": contents})


COUNTED = {"contents": {"int_contents": COUNT}}
ONE_EACH = {"contents": {"int_contents": ONES}}

SCENARIOS = [
    *(Scenario(datatype, typed(datatype, {field: values})) for datatype, (field, values) in VALUES.items()),
    *(
        Scenario(f"{datatype} too short", typed(datatype, {field: values[:2]}))
        for datatype, (field, values) in VALUES.items()
    ),
    *(
        Scenario(f"{datatype} too long", typed(datatype, {field: [*values, values[0]]}))
        for datatype, (field, values) in VALUES.items()
    ),
    *(
        Scenario(f"{datatype} in a field of another type", typed(datatype, {other: VALUES[of][1]}))
        for datatype, (other, of) in {
            "BOOL": ("int_contents", "INT32"),
            "UINT8": ("int_contents", "INT8"),
            "UINT32": ("uint64_contents", "UINT64"),
            "UINT64": ("uint_contents", "UINT32"),
            "INT32": ("int64_contents", "INT64"),
            "INT64": ("int_contents", "INT32"),
            "FP32": ("fp64_contents", "FP64"),
            "FP64": ("fp32_contents", "FP32"),
            "BYTES": ("int_contents", "INT32"),
        }.items()
    ),
    *scenarios(
        fp16_in_fp32_contents=typed("FP16", {"fp32_contents": [1.0, 2.0, 3.0]}),
        bf16_in_fp32_contents=typed("BF16", {"fp32_contents": [1.0, 2.0, 3.0]}),
        fp16_in_bytes_contents=typed("FP16", {"bytes_contents": [base64_text(b"\x00\x3c\x00\xc0\x00\x00")]}),
        two_fields_of_contents=typed("INT32", {"int_contents": [1, 2, 3], "fp32_contents": [1.0]}),
        empty_contents=typed("INT32", {}),
        no_elements=typed("INT32", {}, [1, 0]),
        int8_too_large=typed("INT8", {"int_contents": [200, 1, 2]}),
        uint8_too_large=typed("UINT8", {"uint_contents": [300, 1, 2]}),
        int16_too_small=typed("INT16", {"int_contents": [-40000, 1, 2]}),
        text_in_two_rows=typed("BYTES", {"bytes_contents": [base64_text("a"), base64_text("b")]}, [2, 1]),
        both_inputs=pair(COUNTED, ONE_EACH, []),
        contents_beside_raw_contents=pair(COUNTED, {}, [int32(COUNT), int32(ONES)]),
        contents_beside_raw_contents_of_the_other=pair(COUNTED, {}, [int32(ONES)]),
        contents_of_the_first_only=pair(COUNTED, {}, []),
        raw_contents_and_contents_for_both=pair(COUNTED, ONE_EACH, [int32(COUNT), int32(ONES)]),
    ),
]
