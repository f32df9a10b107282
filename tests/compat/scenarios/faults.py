"""What clients may say wrongly beside their tensors, over both protocols; good requests between it."""

from __future__ import annotations

import json
from typing import Any

from ..messages import GrpcRequest, HttpRequest, Scenario
from .build import base64_text, fp32, get, infer, infer_binary, int32, post, rpc, scenarios, tensor

#: One character more than Triton takes; as many characters, but two bytes more.
LONG_IDS = {"an_id_too_long": "x" * 129, "an_id_of_too_many_bytes": "ä" * 65}
IDENTITY = {
    "name": "identity_fp32",
    "backend": "python",
    "max_batch_size": 8,
    "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
}
#: Answers with an error, so that it shows which code serves.
OTHER_CODE = """class TritonPythonModel:
    def execute(self, requests):
        raise ValueError("the other code")
"""


def told(**parameters: Any) -> HttpRequest:
    return infer("params", {"inputs": [tensor("INPUT0", "INT32", [1], [1])], "parameters": parameters})


def told_over_grpc(**parameters: dict[str, Any]) -> GrpcRequest:
    message = {"model_name": "params", "inputs": [{"name": "INPUT0", "datatype": "INT32", "shape": [1]}]}
    return rpc("ModelInfer", {**message, "raw_input_contents": ["AQAAAA=="], "parameters": parameters})


def ask() -> HttpRequest:
    return infer("identity_fp32", {"inputs": [tensor("INPUT0", "FP32", [1, 1], [1.5])]})


def ask_over_grpc() -> GrpcRequest:
    message = {"model_name": "identity_fp32", "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 1]}]}
    return rpc("ModelInfer", {**message, "raw_input_contents": [base64_text(fp32([1.5]))]})


def load(model: str = "identity_fp32", **parameters: Any) -> HttpRequest:
    return post(f"/v2/repository/models/{model}/load", {"parameters": parameters})


def config(**changes: Any) -> str:
    return json.dumps({**IDENTITY, **changes})


def with_file(path: str, content: str = OTHER_CODE) -> HttpRequest:
    return load(config=config(), **{f"file:{path}": base64_text(content)})


def with_file_over_grpc(path: str) -> GrpcRequest:
    files = {f"file:{path}": {"bytes_param": base64_text(OTHER_CODE)}}
    parameters = {"config": {"string_param": config()}, **files}
    return rpc("RepositoryModelLoad", {"model_name": "identity_fp32", "parameters": parameters})


WRONG_TYPES: dict[str, dict[str, Any]] = {
    "sequence_id": {"a_flag": {"bool_param": True}, "a_fraction": {"double_param": 1.5}},
    "sequence_start": {"a_number": {"int64_param": "1"}, "a_text": {"string_param": "yes"}},
    "sequence_end": {"a_number": {"int64_param": "1"}, "a_text": {"string_param": "no"}},
    "priority": {"a_text": {"string_param": "1"}, "a_negative_number": {"int64_param": "-1"}},
    "timeout": {"a_text": {"string_param": "1"}, "a_fraction": {"double_param": 1.5}},
}

PATHS = {
    "above_the_model": "../evil",
    "above_through_a_version": "1/../../evil",
    "of_the_machine": "/evil",
    "that_is_empty": "",
    "of_a_directory": "1",
    "too_long": "1/" + "a" * 300,
}

CONFIGS = {
    "empty": "",
    "a_list": "[]",
    "a_number": "5",
    "cut_short": '{"name":',
    "text_format": 'name: "identity_fp32"',
    "of_a_fraction": config(max_batch_size=1.5),
    "of_a_word": config(max_batch_size="many"),
    "beyond_int32": config(max_batch_size=2**40),
    "of_another_kind": config(parameters=[1]),
    "of_an_unknown_field": config(nope=1),
    "of_a_name_with_a_path": config(name="../x"),
    "of_a_backend_with_a_path": config(backend="../../x"),
}

FAULTS: list[Scenario] = scenarios(
    load_params=load("params"),
    load=load(),
    **{f"sequence_{name}": told(sequence_id=text) for name, text in LONG_IDS.items()},
    **{f"sequence_{name}_over_gRPC": told_over_grpc(sequence_id={"string_param": x}) for name, x in LONG_IDS.items()},
    sequence_with_the_longest_id=told(sequence_id="x" * 128),
    sequence_with_the_longest_id_over_gRPC=told_over_grpc(sequence_id={"string_param": "x" * 128}),
    **{
        f"{name}_is_{what}_over_gRPC": told_over_grpc(**{name: value})
        for name, values in WRONG_TYPES.items()
        for what, value in values.items()
    },
    timeout_is_a_negative_number_over_gRPC=told_over_grpc(timeout={"int64_param": "-1"}),
    text_with_a_NUL=infer(
        "params",
        {"id": "a\0b", "inputs": [tensor("INPUT0", "INT32", [1], [1])], "parameters": {"text": "a\0b"}},
    ),
    size_and_shape_are_wrong=infer_binary(
        "params", {"inputs": [tensor("INPUT0", "INT32", [2, 2], binary_data_size=4)]}, int32([1])
    ),
    good_parameters_over_gRPC=told_over_grpc(timeout={"int64_param": "5000000"}, a={"double_param": 1.5}),
    **{f"load_with_a_path_{name}": with_file(path) for name, path in PATHS.items() if name != "of_a_directory"},
    load_with_a_path_of_a_directory=load(
        config=config(), **{"file:1/model.py": base64_text(OTHER_CODE), "file:1": base64_text("x")}
    ),
    load_with_a_path_without_its_prefix=load(config=config(), **{"1/model.py": base64_text(OTHER_CODE)}),
    load_with_a_path_above_the_model_over_gRPC=with_file_over_grpc("../evil"),
    load_with_a_path_of_the_machine_over_gRPC=with_file_over_grpc("/evil"),
    infer_after_paths=ask(),
    infer_after_paths_over_gRPC=ask_over_grpc(),
    **{f"load_with_a_config_{name}": load(config=text) for name, text in CONFIGS.items()},
    infer_after_configs=ask(),
    infer_after_configs_over_gRPC=ask_over_grpc(),
    load_with_a_config_as_it_should_be=load(config=config()),
    load_with_the_same_config_and_a_file=with_file("1/model.py"),
    infer_after_the_same_config_and_a_file=ask(),
    load_without_parameters=load(),
    infer_after_all=ask(),
    load_the_parent_directory=load(".."),
    load_the_parent_directory_over_gRPC=rpc("RepositoryModelLoad", {"model_name": ".."}),
    metadata_of_the_parent_directory_over_gRPC=rpc("ModelMetadata", {"name": ".."}),
    trace_setting_of_a_version=get("/v2/models/identity_fp32/versions/1/trace/setting"),
    trace_setting_of_a_version_that_is_none=post("/v2/models/identity_fp32/versions/9/trace/setting", {"nope": 1}),
)
