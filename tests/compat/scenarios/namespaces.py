"""Models of the same name in two repositories: as namespaces, and without."""

from __future__ import annotations

from typing import Any

from ..messages import GrpcRequest, HttpRequest
from .build import base64_text, fp32, get, infer, post, rpc, scenarios, settled, tensor
from .control import load, unload

PLUS_SEVEN = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", each + np.float32(7))]) for each in inputs]
"""
CONFIG = (
    '{"backend": "python", "max_batch_size": 8, "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": ["-1"]}], '
    '"output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": ["-1"]}], "instance_group": [{"kind": "KIND_CPU"}]}'
)
FILES = {"config": CONFIG, "file:1/model.py": base64_text(PLUS_SEVEN)}
FLAGS = ("--model-namespacing=true",)
INDEX = post("/v2/repository/index")


def ask(model: str, **fields: Any) -> HttpRequest:
    return infer(model, {"inputs": [tensor("X", "FP32", [1, 2], [1, 2])]}, **fields)


def ask_over_grpc(model: str, **changes: Any) -> GrpcRequest:
    message = {
        "model_name": model,
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2]}],
        "raw_input_contents": [base64_text(fp32([1, 2]))],
    }
    return rpc("ModelInfer", {**message, **changes})


SERVED = [
    *scenarios(
        ready=get("/v2/health/ready"),
        index=INDEX,
        index_over_gRPC=rpc("RepositoryIndex"),
        index_of_ready_models=post("/v2/repository/index", {"ready": True}),
        name_of_two_ready=get("/v2/models/add/ready"),
        name_of_two_ready_over_gRPC=rpc("ModelReady", {"name": "add"}),
        name_of_two_metadata=get("/v2/models/add"),
        name_of_two_metadata_over_gRPC=rpc("ModelMetadata", {"name": "add"}),
        name_of_two_config=get("/v2/models/add/config"),
        name_of_two_config_over_gRPC=rpc("ModelConfig", {"name": "add"}),
        name_of_two_statistics=get("/v2/models/add/stats"),
        name_of_two_statistics_over_gRPC=rpc("ModelStatistics", {"name": "add"}),
        name_of_two=ask("add"),
        name_of_two_over_gRPC=ask_over_grpc("add"),
        version_of_a_name_of_two=ask("add", version="1"),
        ensembles_of_one_name=ask("pipe"),
        name_of_one=ask("only_first"),
        name_of_one_over_gRPC=ask_over_grpc("only_second"),
        metadata_of_a_name_of_one=get("/v2/models/only_first"),
        version_that_is_not_there=ask("only_first", version="7"),
        version_that_is_not_there_over_gRPC=ask_over_grpc("only_first", model_version="7"),
        ensemble_across_namespaces=ask("across"),
        config_of_an_ensemble_across_namespaces=get("/v2/models/across/config"),
        ensemble_that_names_a_namespace=ask("told"),
        config_of_an_ensemble_that_names_a_namespace=get("/v2/models/told/config"),
        ensemble_of_a_step_in_the_other=ask("both"),
        call_of_a_name_of_two=ask("calls"),
        unknown_name=ask("nope"),
        unknown_name_over_gRPC=ask_over_grpc("nope"),
        unknown_name_metadata=get("/v2/models/nope"),
        unknown_name_ready=get("/v2/models/nope/ready"),
    ),
    *settled(
        statistics_of_a_name_of_one=get("/v2/models/only_second/stats"),
        statistics_of_all=get("/v2/models/stats"),
        metrics=get("/metrics", port="metrics"),
    ),
]

CONTROLLED = settled(
    index_at_start=INDEX,
    infer_before_load=ask("add"),
    load_an_ensemble_across_namespaces=load("across"),
    index_after_the_ensemble=INDEX,
    infer_the_ensemble=ask("across"),
    infer_its_step_of_two=ask("add"),
    infer_its_step_of_one=ask("only_first"),
    load_the_name_of_two=load("pipe"),
    index_after_the_name_of_two=INDEX,
    infer_the_name_of_two=ask("pipe"),
    unload_a_step=unload("only_first"),
    index_after_the_step_is_unloaded=INDEX,
    infer_the_unloaded_step=ask("only_first"),
    infer_the_unloaded_step_over_gRPC=ask_over_grpc("only_first"),
    metadata_of_the_unloaded_step=get("/v2/models/only_first"),
    infer_the_ensemble_without_its_step=ask("across"),
    load_the_step_again=load("only_first"),
    infer_the_ensemble_with_its_step=ask("across"),
    load_from_files=load("fresh", **FILES),
    infer_what_came_with_files=ask("fresh"),
    unload_what_came_with_files=unload("fresh"),
    load_the_name_of_two_with_a_config=load("add", config=CONFIG.replace("8", "2")),
    unload_the_name_of_two=unload("add"),
    index_after_the_name_of_two_is_unloaded=INDEX,
    load_unknown=load("nope"),
    unload_unknown=unload("nope"),
)

DUPLICATES = settled(
    index_at_start=INDEX,
    ready=get("/v2/health/ready"),
    load=load("add"),
    load_over_gRPC=rpc("RepositoryModelLoad", {"model_name": "add"}),
    index_after_load=INDEX,
    index_of_ready_models=post("/v2/repository/index", {"ready": True}),
    index_over_gRPC=rpc("RepositoryIndex"),
    infer=ask("add"),
    metadata_over_gRPC=rpc("ModelMetadata", {"name": "add"}),
    load_another=load("only_first"),
    infer_another=ask("only_first"),
    load_an_ensemble_that_uses_it=load("both"),
    unload=unload("add"),
    index_after_unload=INDEX,
)
