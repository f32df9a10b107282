"""Statistics and metrics after a known series of requests."""

from __future__ import annotations

from ..messages import HttpRequest
from .build import COUNT, ONES, base64_text, get, infer, int32, post, rpc, scenarios, settled, simple, tensor


def batch(size: int) -> HttpRequest:
    inputs = [tensor("INPUT0", "INT32", [size, 16], COUNT * size), tensor("INPUT1", "INT32", [size, 16], ONES * size)]
    return infer("simple", {"inputs": inputs})


OVER_GRPC = rpc(
    "ModelInfer",
    {
        "model_name": "simple",
        "inputs": [{"name": name, "datatype": "INT32", "shape": [1, 16]} for name in ("INPUT0", "INPUT1")],
        "raw_input_contents": [base64_text(int32(COUNT)), base64_text(int32(ONES))],
    },
)

TRAFFIC = scenarios(
    infer=infer("simple", simple()),
    infer_again=infer("simple", simple()),
    infer_over_gRPC=OVER_GRPC,
    infer_a_batch_of_three=batch(3),
    refused_for_its_inputs=infer("simple", simple(inputs=simple()["inputs"][:1])),
    refused_for_its_json=infer("simple", {}),
    load_a_model_that_fails=post("/v2/repository/models/error_model/load"),
    infer_of_the_model_that_fails=infer("error_model", {"inputs": [tensor("MODE", "BYTES", [1], ["raise"])]}),
    infer_of_the_model_that_errs=infer("error_model", {"inputs": [tensor("MODE", "BYTES", [1], ["INVALID_ARG"])]}),
)

STATISTICS = [
    *scenarios(
        before_any_request=get("/v2/models/simple/stats"),
        before_any_request_over_gRPC=rpc("ModelStatistics", {"name": "simple"}),
    ),
    *TRAFFIC,
    *settled(
        of_a_model=get("/v2/models/simple/stats"),
        of_a_version=get("/v2/models/simple/versions/1/stats"),
        of_all_models=get("/v2/models/stats"),
        of_the_model_that_fails=get("/v2/models/error_model/stats"),
        of_a_model_over_gRPC=rpc("ModelStatistics", {"name": "simple"}),
        of_a_version_over_gRPC=rpc("ModelStatistics", {"name": "simple", "version": "1"}),
        of_all_models_over_gRPC=rpc("ModelStatistics"),
        of_an_unknown_model=get("/v2/models/nope/stats"),
        of_a_model_that_is_not_loaded=get("/v2/models/nobatch/stats"),
        of_an_unknown_version=get("/v2/models/simple/versions/7/stats"),
        unload=post("/v2/repository/models/simple/unload"),
        of_an_unloaded_model=get("/v2/models/simple/stats"),
        load_again=post("/v2/repository/models/simple/load"),
        of_a_model_loaded_again=get("/v2/models/simple/stats"),
    ),
]

METRICS = [
    *scenarios(before_any_request=get("/metrics", port="metrics")),
    *TRAFFIC,
    *settled(
        after_the_requests=get("/metrics", port="metrics"),
        with_a_slash=get("/metrics/", port="metrics"),
        another_path=get("/v2", port="metrics"),
        root=get("/", port="metrics"),
        by_post=HttpRequest("POST", "/metrics", port="metrics"),
        by_head=HttpRequest("HEAD", "/metrics", port="metrics"),
    ),
]
