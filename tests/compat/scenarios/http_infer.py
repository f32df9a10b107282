"""Inference over HTTP with tensors as JSON: good forms first, then everything that can be wrong with an input."""

from __future__ import annotations

import json

from .build import COUNT, ONES, infer, scenarios, simple, simple_with, tensor

GOOD = scenarios(
    flat_data=infer("simple", simple()),
    nested_data=infer("simple", simple_with(data=[COUNT])),
    strangely_nested_data=infer("simple", simple_with(data=[[COUNT[:4], COUNT[4:]], [[[]]]])),
    data_nested_otherwise=infer("simple", simple_with(data=[[n] for n in COUNT])),
    batch_of_three=infer(
        "simple",
        {
            "inputs": [
                tensor("INPUT0", "INT32", [3, 16], [COUNT, ONES, COUNT]),
                tensor("INPUT1", "INT32", [3, 16], [ONES, ONES, COUNT]),
            ]
        },
    ),
    largest_batch=infer(
        "simple",
        {
            "inputs": [
                tensor("INPUT0", "INT32", [8, 16], COUNT * 8),
                tensor("INPUT1", "INT32", [8, 16], ONES * 8),
            ]
        },
    ),
    inputs_in_other_order=infer("simple", simple(inputs=simple()["inputs"][::-1])),
    strings=infer(
        "simple_string",
        {
            "inputs": [
                tensor("INPUT0", "BYTES", [1, 16], [str(n) for n in COUNT]),
                tensor("INPUT1", "BYTES", [1, 16], [str(n) for n in ONES]),
            ]
        },
    ),
    strings_beyond_ascii=infer(
        "one_string", {"inputs": [tensor("TEXT", "BYTES", [3, 1], ["", "häß\u20ac", "\U0001f41a\n\0"])]}
    ),
    strings_with_escapes=infer(
        "one_string",
        '{"inputs":[{"name":"TEXT","datatype":"BYTES","shape":[2,1],"data":["\\u00e9\\ud83d\\udc1a","\\/\\b"]}]}',
    ),
    strings_with_half_a_surrogate_pair=infer(
        "one_string", '{"inputs":[{"name":"TEXT","datatype":"BYTES","shape":[1,1],"data":["\\ud83d"]}]}'
    ),
    floats=infer(
        "identity_fp32",
        {"inputs": [tensor("INPUT0", "FP32", [1, 9], [0, -0.0, 0.1, 1, -2.5, 3.4028234e38, 1e-45, 1e10, 123456789])]},
    ),
    floats_that_overflow=infer("identity_fp32", {"inputs": [tensor("INPUT0", "FP32", [1, 2], [1e39, -1e39])]}),
    no_batch=infer("nobatch", {"inputs": [tensor("INPUT0", "FP32", [2, 3], [[1, 2, 3], [4, 5, 6.5]])]}),
    without_the_optional_input=infer(
        "optional",
        {"inputs": [tensor("REQUIRED", "INT32", [1, 2], [1, 2]), tensor("REQUIRED_TOO", "INT32", [1, 2], [3, 4])]},
    ),
    with_the_optional_input=infer(
        "optional",
        {
            "inputs": [
                tensor("REQUIRED", "INT32", [1, 2], [1, 2]),
                tensor("REQUIRED_TOO", "INT32", [1, 2], [3, 4]),
                tensor("EXTRA", "INT32", [1, 2], [50, 60]),
            ]
        },
    ),
    reshaped=infer(
        "reshape",
        {
            "inputs": [
                tensor("SCALAR", "INT32", [2, 1], [7, 8]),
                tensor("SQUARE", "INT32", [2, 4], [1, 2, 3, 4, 5, 6, 7, 8]),
            ]
        },
    ),
    no_elements=infer("zero_size", {"inputs": [tensor("INPUT0", "FP32", [1, 0, 2], [])]}),
    no_elements_in_some=infer("zero_size", {"inputs": [tensor("INPUT0", "FP32", [2, 1, 2], [1, 2, 3, 4])]}),
    autocompleted=infer("autocomplete", {"inputs": [tensor("INPUT0", "FP32", [1, 2], [1, 2])]}),
    id=infer("simple", simple(id="request 7")),
    id_beyond_ascii=infer("simple", simple(id='"häß"\n\u20ac')),
    empty_id=infer("simple", simple(id="")),
)

EVERY_DATATYPE = scenarios(
    bools=infer("every_datatype", {"inputs": [tensor("IN_BOOL", "BOOL", [1, 3], [True, False, True])]}),
    uint8=infer("every_datatype", {"inputs": [tensor("IN_UINT8", "UINT8", [1, 3], [0, 1, 255])]}),
    uint16=infer("every_datatype", {"inputs": [tensor("IN_UINT16", "UINT16", [1, 3], [0, 1, 65535])]}),
    uint32=infer("every_datatype", {"inputs": [tensor("IN_UINT32", "UINT32", [1, 3], [0, 1, 2**32 - 1])]}),
    uint64=infer("every_datatype", {"inputs": [tensor("IN_UINT64", "UINT64", [1, 3], [0, 1, 2**64 - 1])]}),
    int8=infer("every_datatype", {"inputs": [tensor("IN_INT8", "INT8", [1, 3], [-128, 1, 127])]}),
    int16=infer("every_datatype", {"inputs": [tensor("IN_INT16", "INT16", [1, 3], [-(2**15), 1, 2**15 - 1])]}),
    int32=infer("every_datatype", {"inputs": [tensor("IN_INT32", "INT32", [1, 3], [-(2**31), 1, 2**31 - 1])]}),
    int64=infer("every_datatype", {"inputs": [tensor("IN_INT64", "INT64", [1, 3], [-(2**63), 1, 2**63 - 1])]}),
    fp32=infer("every_datatype", {"inputs": [tensor("IN_FP32", "FP32", [1, 3], [0.1, -1.5, 16777217])]}),
    fp64=infer("every_datatype", {"inputs": [tensor("IN_FP64", "FP64", [1, 4], [0.1, -1.5, 1e300, 16777217])]}),
    text=infer("every_datatype", {"inputs": [tensor("IN_BYTES", "BYTES", [2, 2], [["a", "bc"], ["", "\u20ac"]])]}),
    two_datatypes=infer(
        "every_datatype",
        {"inputs": [tensor("IN_FP64", "FP64", [2, 1], [1, 2]), tensor("IN_BOOL", "BOOL", [2, 1], [True, False])]},
    ),
    fp16_as_json=infer("every_datatype", {"inputs": [tensor("IN_FP16", "FP16", [1, 2], [1, 2])]}),
    bf16_as_json=infer("every_datatype", {"inputs": [tensor("IN_BF16", "BF16", [1, 2], [1, 2])]}),
    none_of_the_optional_inputs=infer("every_datatype", {"inputs": []}),
    bools_as_numbers=infer("every_datatype", {"inputs": [tensor("IN_BOOL", "BOOL", [1, 2], [1, 0])]}),
    bools_as_strings=infer("every_datatype", {"inputs": [tensor("IN_BOOL", "BOOL", [1, 2], ["true", "false"])]}),
    uint8_too_large=infer("every_datatype", {"inputs": [tensor("IN_UINT8", "UINT8", [1, 2], [256, 511])]}),
    uint8_negative=infer("every_datatype", {"inputs": [tensor("IN_UINT8", "UINT8", [1, 1], [-1])]}),
    int8_too_large=infer("every_datatype", {"inputs": [tensor("IN_INT8", "INT8", [1, 1], [200])]}),
    int16_too_small=infer("every_datatype", {"inputs": [tensor("IN_INT16", "INT16", [1, 1], [-40000])]}),
    int32_too_large=infer("every_datatype", {"inputs": [tensor("IN_INT32", "INT32", [1, 1], [2**31])]}),
    uint32_too_large=infer("every_datatype", {"inputs": [tensor("IN_UINT32", "UINT32", [1, 1], [2**32])]}),
    int64_too_large=infer("every_datatype", {"inputs": [tensor("IN_INT64", "INT64", [1, 1], [2**63])]}),
    uint64_too_large=infer("every_datatype", {"inputs": [tensor("IN_UINT64", "UINT64", [1, 1], [2**64])]}),
    uint64_negative=infer("every_datatype", {"inputs": [tensor("IN_UINT64", "UINT64", [1, 1], [-1])]}),
    int64_as_whole_float=infer("every_datatype", {"inputs": [tensor("IN_INT64", "INT64", [1, 1], [2.0])]}),
    int64_as_null=infer("every_datatype", {"inputs": [tensor("IN_INT64", "INT64", [1, 1], [None])]}),
    fp64_as_bool=infer("every_datatype", {"inputs": [tensor("IN_FP64", "FP64", [1, 1], [True])]}),
    fp64_as_string=infer("every_datatype", {"inputs": [tensor("IN_FP64", "FP64", [1, 1], ["1.5"])]}),
    fp64_as_null=infer("every_datatype", {"inputs": [tensor("IN_FP64", "FP64", [1, 1], [None])]}),
    fp64_beyond_range=infer(
        "every_datatype", '{"inputs":[{"name":"IN_FP64","datatype":"FP64","shape":[1,1],"data":[1e400]}]}'
    ),
    text_as_number=infer("every_datatype", {"inputs": [tensor("IN_BYTES", "BYTES", [1, 1], [5])]}),
    text_as_null=infer("every_datatype", {"inputs": [tensor("IN_BYTES", "BYTES", [1, 1], [None])]}),
)

BAD_INPUTS = scenarios(
    inputs_missing=infer("simple", {"id": "x"}),
    inputs_is_an_object=infer("simple", {"inputs": {}}),
    inputs_is_null=infer("simple", {"inputs": None}),
    inputs_is_a_string=infer("simple", {"inputs": "INPUT0"}),
    inputs_empty=infer("simple", {"inputs": []}),
    inputs_of_numbers=infer("simple", {"inputs": [1, 2]}),
    inputs_of_arrays=infer("simple", {"inputs": [[], []]}),
    one_input_missing=infer("simple", simple(inputs=simple()["inputs"][:1])),
    second_input_only=infer("simple", simple(inputs=simple()["inputs"][1:])),
    one_input_missing_with_an_id=infer("simple", simple(id="abc", inputs=simple()["inputs"][:1])),
    one_input_too_many=infer("simple", simple(inputs=[*simple()["inputs"], tensor("INPUT2", "INT32", [1, 16], ONES)])),
    one_input_twice=infer("simple", simple(inputs=[simple()["inputs"][0], simple()["inputs"][0]])),
    one_input_twice_and_the_other=infer("simple", simple(inputs=[*simple()["inputs"], simple()["inputs"][0]])),
    one_input_misnamed=infer("simple", simple_with(name="INPUT_ZERO")),
    optional_model_without_inputs=infer("optional", {"inputs": []}),
    optional_model_with_the_optional_alone=infer("optional", {"inputs": [tensor("EXTRA", "INT32", [1, 2], [1, 2])]}),
    optional_model_with_one_required_and_the_optional=infer(
        "optional",
        {"inputs": [tensor("REQUIRED", "INT32", [1, 2], [1, 2]), tensor("EXTRA", "INT32", [1, 2], [1, 2])]},
    ),
    optional_model_with_an_unknown_input=infer(
        "optional",
        {
            "inputs": [
                tensor("REQUIRED", "INT32", [1, 2], [1, 2]),
                tensor("REQUIRED_TOO", "INT32", [1, 2], [1, 2]),
                tensor("OTHER", "INT32", [1, 2], [1, 2]),
            ]
        },
    ),
    name_missing=infer("simple", simple_with(name=None)),
    name_is_a_number=infer("simple", simple_with(name=7)),
    datatype_missing=infer("simple", simple_with(datatype=None)),
    datatype_is_a_number=infer("simple", simple_with(datatype=7)),
    datatype_in_lower_case=infer("simple", simple_with(datatype="int32")),
    datatype_in_config_spelling=infer("simple", simple_with(datatype="TYPE_INT32")),
    datatype_unknown=infer("simple", simple_with(datatype="INT33")),
    datatype_empty=infer("simple", simple_with(datatype="")),
    datatype_of_another_input=infer("simple", simple_with(datatype="FP32")),
    datatype_bytes_for_int32=infer("simple", simple_with(datatype="BYTES", data=[str(n) for n in COUNT])),
    shape_missing=infer("simple", simple_with(shape=None)),
    shape_is_a_number=infer("simple", simple_with(shape=16)),
    shape_empty=infer("simple", simple_with(shape=[])),
    shape_of_strings=infer("simple", simple_with(shape=["1", "16"])),
    shape_of_floats=infer("simple", simple_with(shape=[1.0, 16.0])),
    shape_nested=infer("simple", simple_with(shape=[[1, 16]])),
    shape_negative=infer("simple", simple_with(shape=[-1, 16])),
    shape_with_null=infer("simple", json.dumps(simple_with(shape=[1, 16])).replace("[1, 16]", "[1, null]", 1)),
    shape_huge=infer("simple", simple_with(shape=[1, 2**62])),
    shape_product_overflows=infer("simple", simple_with(shape=[2**32, 2**32])),
    shape_beyond_int64=infer("simple", simple_with(shape=[1, 2**64])),
    shape_without_batch=infer("simple", simple_with(shape=[16])),
    shape_of_other_width=infer("simple", simple_with(shape=[1, 8], data=COUNT[:8])),
    shape_of_too_many_dimensions=infer("simple", simple_with(shape=[1, 16, 1])),
    shape_zero_batch=infer("simple", simple_with(shape=[0, 16], data=[])),
    shape_zero_batch_everywhere=infer(
        "simple", simple(inputs=[tensor("INPUT0", "INT32", [0, 16], []), tensor("INPUT1", "INT32", [0, 16], [])])
    ),
    shape_wrong_with_an_id=infer("simple", simple_with(shape=[16]) | {"id": "abc"}),
    shape_of_fixed_dimension_without_batches=infer(
        "nobatch", {"inputs": [tensor("INPUT0", "FP32", [3, 1], [1, 2, 3])]}
    ),
    shape_of_other_rank_without_batches=infer("nobatch", {"inputs": [tensor("INPUT0", "FP32", [2], [1, 2])]}),
    shape_of_reshaped_input_in_its_inner_form=infer(
        "reshape",
        {
            "inputs": [
                tensor("SCALAR", "INT32", [2, 1], [7, 8]),
                tensor("SQUARE", "INT32", [2, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8]),
            ]
        },
    ),
    shape_of_string_input=infer("one_string", {"inputs": [tensor("TEXT", "BYTES", [1, 2], ["a", "b"])]}),
    batch_too_large=infer(
        "simple",
        {
            "inputs": [
                tensor("INPUT0", "INT32", [9, 16], COUNT * 9),
                tensor("INPUT1", "INT32", [9, 16], ONES * 9),
            ]
        },
    ),
    batch_too_large_with_an_id=infer(
        "identity_fp32", {"id": "abc", "inputs": [tensor("INPUT0", "FP32", [9, 1], ONES[:9])]}
    ),
    batch_sizes_differ=infer(
        "simple",
        {
            "inputs": [
                tensor("INPUT0", "INT32", [2, 16], COUNT * 2),
                tensor("INPUT1", "INT32", [1, 16], ONES),
            ]
        },
    ),
    data_missing=infer("simple", simple_with(data=None)),
    data_empty=infer("simple", simple_with(data=[])),
    data_too_short=infer("simple", simple_with(data=COUNT[:15])),
    data_too_long=infer("simple", simple_with(data=[*COUNT, 16])),
    data_too_short_for_its_batch=infer("simple", simple_with(shape=[2, 16])),
    data_too_long_when_nested=infer("simple", simple_with(data=[COUNT, COUNT])),
    data_is_a_number=infer("simple", simple_with(data=5)),
    data_is_a_string=infer("simple", simple_with(data="0123456789abcdef")),
    data_is_an_object=infer("simple", simple_with(data={"a": 1})),
    data_is_null=infer("simple", json.dumps(simple_with(data=[])).replace('"data": []', '"data": null')),
    data_of_floats=infer("simple", simple_with(data=[0.5] * 16)),
    data_of_strings=infer("simple", simple_with(data=["1"] * 16)),
    data_of_bools=infer("simple", simple_with(data=[True] * 16)),
    data_of_objects=infer("simple", simple_with(data=[{}] * 16)),
    data_partly_wrong=infer("simple", simple_with(data=[*COUNT[:15], "x"])),
    data_too_short_for_strings=infer("one_string", {"inputs": [tensor("TEXT", "BYTES", [2, 1], ["a"])]}),
    data_too_long_for_strings=infer("one_string", {"inputs": [tensor("TEXT", "BYTES", [1, 1], ["a", "b"])]}),
    data_for_no_elements=infer("zero_size", {"inputs": [tensor("INPUT0", "FP32", [1, 0, 2], [1.0])]}),
    no_data_for_no_elements=infer("zero_size", {"inputs": [tensor("INPUT0", "FP32", [1, 0, 2])]}),
    parameters_of_an_input_are_ignored=infer("simple", simple_with(parameters={"anything": [1, {}]})),
    parameters_of_an_input_is_a_list=infer("simple", simple_with(parameters=[1])),
    id_is_a_number=infer("simple", simple(id=7)),
    id_is_null=infer("simple", simple(id=None)),
    id_is_a_list=infer("simple", simple(id=["a"])),
)

SCENARIOS = GOOD + EVERY_DATATYPE + BAD_INPUTS
