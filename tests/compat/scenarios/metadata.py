"""Health, metadata and configuration of server and models over HTTP."""

from __future__ import annotations

from ..messages import Scenario
from .build import get, post, scenarios

MODELS = (
    "autocomplete",
    "delayed",
    "every_datatype",
    "identity_fp32",
    "labels",
    "nobatch",
    "one_string",
    "optional",
    "params",
    "reshape",
    "simple",
    "simple_string",
    "slow",
    "zero_size",
)

SCENARIOS = [
    *scenarios(
        live=get("/v2/health/live"),
        ready=get("/v2/health/ready"),
        server_metadata=get("/v2"),
        server_metadata_with_a_slash=get("/v2/"),
        model_ready=get("/v2/models/simple/ready"),
        version_ready=get("/v2/models/simple/versions/1/ready"),
        unknown_version_ready=get("/v2/models/simple/versions/7/ready"),
        unknown_model_ready=get("/v2/models/nope/ready"),
        unknown_model_metadata=get("/v2/models/nope"),
        unknown_model_version_metadata=get("/v2/models/nope/versions/1"),
        unknown_version_metadata=get("/v2/models/simple/versions/7"),
        version_zero_metadata=get("/v2/models/simple/versions/0"),
        version_with_leading_zero_metadata=get("/v2/models/simple/versions/01"),
        version_too_large_for_an_integer=get("/v2/models/simple/versions/99999999999999999999"),
        version_metadata=get("/v2/models/simple/versions/1"),
        unknown_model_config=get("/v2/models/nope/config"),
        unknown_version_config=get("/v2/models/simple/versions/7/config"),
        version_config=get("/v2/models/simple/versions/1/config"),
        index=post("/v2/repository/index"),
        index_of_ready_models=post("/v2/repository/index", {"ready": True}),
        index_of_a_repository_by_name=post("/v2/repository/models/index"),
        index_of_a_named_repository=post("/v2/repository/nowhere/index"),
        index_with_ready_of_another_type=post("/v2/repository/index", {"ready": "yes"}),
        index_with_bad_json=post("/v2/repository/index", "{nope"),
        index_by_get=get("/v2/repository/index"),
        load_outside_explicit_mode=post("/v2/repository/models/simple/load"),
        load_of_an_unknown_model_outside_explicit_mode=post("/v2/repository/models/nope/load"),
        unload_outside_explicit_mode=post("/v2/repository/models/simple/unload"),
    ),
    *(Scenario(f"metadata of {model}", get(f"/v2/models/{model}")) for model in MODELS),
    # The order of the keys of a protobuf map, such as the policies of `delayed`, means nothing.
    *(Scenario(f"config of {model}", get(f"/v2/models/{model}/config"), ["order"]) for model in MODELS),
]
