"""Restricted APIs: which calls need which header, and what is answered without it."""

from __future__ import annotations

from typing import Any

import msgspec

from ..messages import GrpcRequest, HttpRequest, Scenario
from .build import get, infer, post, rpc, scenarios, simple

#: The flags of the server these are sent to.
FLAGS = tuple(
    f"--{flag}={groups}"
    for flag in ("http-restricted-api", "grpc-restricted-protocol")
    for groups in (
        "health:key-one=one",
        "inference:key-two=two",
        "shared-memory,model-config,model-repository:key-three=three=3",
        "statistics,trace,logging:key-four=4",
    )
)
KEYS = {"key-one": "one", "key-two": "two", "key-three": "three=3", "key-four": "4"}
TENSORS = {"INPUT0": [1] * 16, "INPUT1": [1] * 16}

CALLS: dict[str, HttpRequest] = {
    "metadata": get("/v2"),
    "live": get("/v2/health/live"),
    "ready": get("/v2/health/ready"),
    "model_ready": get("/v2/models/simple/ready"),
    "model_metadata": get("/v2/models/simple"),
    "configuration": get("/v2/models/simple/config"),
    "statistics_of_all": get("/v2/models/stats"),
    "infer": infer("simple", simple()),
    "infer_with_another_method": HttpRequest("PUT", "/v2/models/simple/infer"),
    "infer_of_an_unknown_model": infer("nope", {}),
    "generate": post("/v2/models/simple/generate", TENSORS),
    "generate_stream": post("/v2/models/simple/generate_stream", TENSORS),
    "index": post("/v2/repository/index"),
    "load": post("/v2/repository/models/simple/load"),
    "unload": post("/v2/repository/models/simple/unload"),
    "logging": get("/v2/logging"),
    "trace_setting": get("/v2/trace/setting"),
    "trace_setting_of_a_model": get("/v2/models/simple/trace/setting"),
    "system_regions": get("/v2/systemsharedmemory/status"),
    "register": post("/v2/systemsharedmemory/region/x/register", {}),
    "cuda_regions": get("/v2/cudasharedmemory/status"),
    "no_such_path": get("/v2/nope"),
}
RPCS: dict[str, GrpcRequest] = {
    name: rpc(name)
    for name in (
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelConfig",
        "ModelInfer",
        "ModelStreamInfer",
        "RepositoryIndex",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
        "LogSettings",
        "TraceSetting",
        "ModelStatistics",
        "SystemSharedMemoryStatus",
        "SystemSharedMemoryUnregister",
        "CudaSharedMemoryStatus",
    )
} | {"health_check": GrpcRequest("/grpc.health.v1.Health/Check", raw=b"")}


def with_keys(request: Any) -> Any:
    """The request with every key."""
    if isinstance(request, HttpRequest):
        return msgspec.structs.replace(request, headers=KEYS)
    return msgspec.structs.replace(request, metadata={f"triton-grpc-protocol-{name}": KEYS[name] for name in KEYS})


SCENARIOS: list[Scenario] = scenarios(
    **{f"{name}_without_key": request for name, request in (CALLS | RPCS).items()},
    **{f"{name}_with_key": with_keys(request) for name, request in (CALLS | RPCS).items()},
    another_value=get("/v2/health/live", headers={"key-one": "two"}),
    a_value_in_other_case=get("/v2/health/live", headers={"key-one": "ONE"}),
    a_name_in_other_case=get("/v2/health/live", headers={"KEY-One": "one"}),
    a_key_of_another_group=get("/v2/health/live", headers={"key-two": "two"}),
    a_grpc_key_of_another_value=rpc("ServerLive", metadata={"triton-grpc-protocol-key-one": "two"}),
    a_grpc_key_without_prefix=rpc("ServerLive", metadata={"key-one": "one"}),
)
