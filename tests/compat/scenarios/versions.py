"""Version policies and directories that are no versions."""

from __future__ import annotations

from ..messages import Scenario
from .build import get, infer, post, rpc, scenarios, settled, tensor

MODELS = ("all_versions", "default_policy", "latest_two", "specific_version")
BODY = {"inputs": [tensor("INPUT0", "INT32", [1], [5])]}

SCENARIOS = [
    *scenarios(index=post("/v2/repository/index"), index_over_gRPC=rpc("RepositoryIndex")),
    *(Scenario(f"metadata of {model}", get(f"/v2/models/{model}")) for model in MODELS),
    *(Scenario(f"config of {model}", get(f"/v2/models/{model}/config")) for model in MODELS),
    *(Scenario(f"infer of {model}", infer(model, BODY)) for model in MODELS),
    *(
        Scenario(f"infer of {model} version {version}", infer(model, BODY, version=version))
        for model in MODELS
        for version in ("1", "2", "3", "4")
    ),
    *(
        Scenario(f"{model} version {version} ready", get(f"/v2/models/{model}/versions/{version}/ready"))
        for model in MODELS
        for version in ("1", "2", "3")
    ),
    *scenarios(
        metadata_of_a_version=get("/v2/models/all_versions/versions/1"),
        metadata_of_a_version_not_loaded=get("/v2/models/default_policy/versions/1"),
        config_of_a_version_not_loaded=get("/v2/models/default_policy/versions/1/config"),
        statistics_of_a_version_not_loaded=get("/v2/models/default_policy/versions/1/stats"),
        metadata_of_all_versions_over_gRPC=rpc("ModelMetadata", {"name": "all_versions"}),
        metadata_of_a_version_over_gRPC=rpc("ModelMetadata", {"name": "all_versions", "version": "1"}),
        metadata_of_a_version_not_loaded_over_gRPC=rpc("ModelMetadata", {"name": "default_policy", "version": "1"}),
    ),
    *settled(
        statistics_of_a_version=get("/v2/models/all_versions/versions/2/stats"),
        statistics_of_all_versions=get("/v2/models/all_versions/stats"),
        statistics_of_all_versions_over_gRPC=rpc("ModelStatistics", {"name": "all_versions"}),
    ),
]
