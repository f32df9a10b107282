"""Every gRPC call that does not infer, and calls that do not exist."""

from __future__ import annotations

from ..messages import GrpcRequest, Scenario
from .build import rpc, scenarios
from .metadata import MODELS

SCENARIOS = [
    *scenarios(
        live=rpc("ServerLive"),
        ready=rpc("ServerReady"),
        server_metadata=rpc("ServerMetadata"),
        model_ready=rpc("ModelReady", {"name": "simple"}),
        version_ready=rpc("ModelReady", {"name": "simple", "version": "1"}),
        unknown_version_ready=rpc("ModelReady", {"name": "simple", "version": "7"}),
        unknown_model_ready=rpc("ModelReady", {"name": "nope"}),
        version_that_is_no_number_ready=rpc("ModelReady", {"name": "simple", "version": "x"}),
        nameless_model_ready=rpc("ModelReady"),
        model_metadata=rpc("ModelMetadata", {"name": "simple"}),
        version_metadata=rpc("ModelMetadata", {"name": "simple", "version": "1"}),
        unknown_model_metadata=rpc("ModelMetadata", {"name": "nope"}),
        unknown_version_metadata=rpc("ModelMetadata", {"name": "simple", "version": "7"}),
        version_that_is_no_number_metadata=rpc("ModelMetadata", {"name": "simple", "version": "x"}),
        version_with_words_metadata=rpc("ModelMetadata", {"name": "simple", "version": "1x"}),
        negative_version_metadata=rpc("ModelMetadata", {"name": "simple", "version": "-1"}),
        version_zero_metadata=rpc("ModelMetadata", {"name": "simple", "version": "0"}),
        version_too_large_metadata=rpc("ModelMetadata", {"name": "simple", "version": "99999999999999999999"}),
        nameless_model_metadata=rpc("ModelMetadata"),
        unknown_model_config=rpc("ModelConfig", {"name": "nope"}),
        unknown_version_config=rpc("ModelConfig", {"name": "simple", "version": "7"}),
        version_that_is_no_number_config=rpc("ModelConfig", {"name": "simple", "version": "x"}),
        statistics_of_an_unknown_model=rpc("ModelStatistics", {"name": "nope"}),
        statistics_of_an_unknown_version=rpc("ModelStatistics", {"name": "simple", "version": "7"}),
        index=rpc("RepositoryIndex"),
        index_of_ready_models=rpc("RepositoryIndex", {"ready": True}),
        index_of_a_named_repository=rpc("RepositoryIndex", {"repository_name": "nowhere"}),
        load_outside_explicit_mode=rpc("RepositoryModelLoad", {"model_name": "simple"}),
        load_from_a_named_repository=rpc("RepositoryModelLoad", {"repository_name": "nowhere", "model_name": "simple"}),
        unload_outside_explicit_mode=rpc("RepositoryModelUnload", {"model_name": "simple"}),
        health_of_the_server=GrpcRequest("/grpc.health.v1.Health/Check", raw=b""),
        health_of_the_inference_service=GrpcRequest(
            "/grpc.health.v1.Health/Check", raw=b"\x0a\x1einference.GRPCInferenceService"
        ),
        health_of_an_unknown_service=GrpcRequest("/grpc.health.v1.Health/Check", raw=b"\x0a\x04nope"),
        compressed_request=rpc("ServerMetadata", compression="gzip"),
        compressed_request_by_deflate=rpc("ModelMetadata", {"name": "simple"}, compression="deflate"),
        metadata_beside_the_request=rpc("ServerLive", metadata={"anything": "goes"}),
    ),
    Scenario("unknown method", GrpcRequest("/inference.GRPCInferenceService/Nope", raw=b""), ["details"]),
    Scenario("unknown service", GrpcRequest("/nowhere.Nobody/Nothing", raw=b""), ["details"]),
    Scenario("message that cannot be parsed", GrpcRequest("ModelMetadata", raw=b"\xff\xff\xff"), ["details"]),
    *(Scenario(f"metadata of {model}", rpc("ModelMetadata", {"name": model})) for model in MODELS),
    *(Scenario(f"config of {model}", rpc("ModelConfig", {"name": model})) for model in MODELS),
]
