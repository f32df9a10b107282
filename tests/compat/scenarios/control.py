"""Loading and unloading on demand, and log settings: scenarios that change the server."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ..messages import MODELS_DIRECTORY, HttpRequest
from .build import COUNT, base64_text, get, infer, post, rpc, scenarios, simple, tensor

NOBATCH = {"inputs": [tensor("INPUT0", "FP32", [2, 1], [1, 2])]}
MODEL_PY = (MODELS_DIRECTORY / "main" / "identity_fp32" / "1" / "model.py").read_text()
DOUBLING = MODEL_PY.replace('"OUTPUT0", values', '"OUTPUT0", values + values')


def load(model: str, **parameters: Any) -> HttpRequest:
    body = {"parameters": parameters} if parameters else None
    return post(f"/v2/repository/models/{model}/load", body)


def unload(model: str, **parameters: Any) -> HttpRequest:
    body = {"parameters": parameters} if parameters else None
    return post(f"/v2/repository/models/{model}/unload", body)


def identity_config(**changes: Any) -> str:
    config = {
        "backend": "python",
        "max_batch_size": 2,
        "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": ["-1"]}],
        "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": ["-1"]}],
    }
    return json.dumps(config | changes)


ASK = infer("identity_fp32", {"inputs": [tensor("INPUT0", "FP32", [1, 1], [1.5])]})

WRITTEN = scenarios(
    index_at_start=post("/v2/repository/index"),
    index_of_ready_models_at_start=post("/v2/repository/index", {"ready": True}),
    server_ready=get("/v2/health/ready"),
    model_not_loaded_ready=get("/v2/models/nobatch/ready"),
    infer_of_a_model_not_loaded=infer("nobatch", NOBATCH),
    metadata_of_a_model_not_loaded=get("/v2/models/nobatch"),
    metadata_of_a_model_not_loaded_over_gRPC=rpc("ModelMetadata", {"name": "nobatch"}),
    load=load("nobatch"),
    infer_after_load=infer("nobatch", NOBATCH),
    load_again=load("nobatch"),
    infer_after_second_load=infer("nobatch", NOBATCH),
    unload=unload("nobatch"),
    index_after_unload=post("/v2/repository/index"),
    infer_after_unload=infer("nobatch", NOBATCH),
    ready_after_unload=get("/v2/models/nobatch/ready"),
    metadata_after_unload=get("/v2/models/nobatch"),
    config_after_unload=get("/v2/models/nobatch/config"),
    version_metadata_after_unload=get("/v2/models/nobatch/versions/1"),
    unload_again=unload("nobatch"),
    load_unknown=load("nope"),
    unload_unknown=unload("nope"),
    index_after_load_of_unknown=post("/v2/repository/index"),
    load_with_empty_body=load("nobatch"),
    load_with_empty_object=post("/v2/repository/models/nobatch/load", {}),
    load_with_bad_json=post("/v2/repository/models/nobatch/load", "{nope"),
    load_with_parameters_of_another_type=post("/v2/repository/models/nobatch/load", {"parameters": 1}),
    load_with_unknown_parameter=load("nobatch", anything="x"),
    load_with_config_of_another_type=load("nobatch", config={"backend": "python"}),
    load_with_config_that_is_no_json=load("nobatch", config="{nope"),
    load_with_config_of_unknown_field=load("identity_fp32", config=identity_config(nope=1)),
    load_with_files_without_config=load("identity_fp32", **{"file:1/model.py": base64_text(DOUBLING)}),
    load_of_a_named_repository=post("/v2/repository/nowhere/models/simple/load"),
    load_with_config=load("identity_fp32", config=identity_config()),
    config_after_load_with_config=get("/v2/models/identity_fp32/config"),
    metadata_after_load_with_config=get("/v2/models/identity_fp32"),
    infer_after_load_with_config=ASK,
    load_without_config=load("identity_fp32"),
    config_after_load_without_config=get("/v2/models/identity_fp32/config"),
    load_with_config_and_another_name=load("identity_fp32", config=identity_config(name="other")),
    load_with_config_and_file=load(
        "identity_fp32", config=identity_config(), **{"file:1/model.py": base64_text(DOUBLING)}
    ),
    infer_after_load_with_file=ASK,
    load_with_file_in_another_version=load(
        "identity_fp32", config=identity_config(), **{"file:5/model.py": base64_text(DOUBLING)}
    ),
    metadata_after_load_with_another_version=get("/v2/models/identity_fp32"),
    infer_after_load_with_another_version=ASK,
    load_a_model_from_a_file_alone=load(
        "made_up", config=identity_config(), **{"file:1/model.py": base64_text(MODEL_PY)}
    ),
    infer_of_a_model_made_up=infer("made_up", {"inputs": [tensor("INPUT0", "FP32", [1, 1], [1.5])]}),
    load_with_file_that_is_not_base64=load("identity_fp32", config=identity_config(), **{"file:1/model.py": "%%%"}),
    load_with_file_without_a_version=load(
        "identity_fp32", config=identity_config(), **{"file:model.py": base64_text(DOUBLING)}
    ),
    load_with_broken_file=load(
        "identity_fp32", config=identity_config(), **{"file:1/model.py": base64_text("raise RuntimeError('no')\n")}
    ),
    index_after_broken_file=post("/v2/repository/index"),
    unload_the_model_with_files=unload("identity_fp32"),
    unload_with_dependents=unload("simple", unload_dependents=True),
    unload_with_dependents_of_another_type=unload("simple", unload_dependents="yes"),
    infer_after_unload_with_dependents=infer("simple", simple()),
    load_over_gRPC=rpc("RepositoryModelLoad", {"model_name": "simple"}),
    infer_after_load_over_gRPC=infer("simple", simple(inputs=simple()["inputs"])),
    load_unknown_over_gRPC=rpc("RepositoryModelLoad", {"model_name": "nope"}),
    load_with_config_over_gRPC=rpc(
        "RepositoryModelLoad",
        {"model_name": "identity_fp32", "parameters": {"config": {"string_param": identity_config()}}},
    ),
    load_with_config_of_another_type_over_gRPC=rpc(
        "RepositoryModelLoad", {"model_name": "identity_fp32", "parameters": {"config": {"bool_param": True}}}
    ),
    load_with_file_over_gRPC=rpc(
        "RepositoryModelLoad",
        {
            "model_name": "identity_fp32",
            "parameters": {
                "config": {"string_param": identity_config()},
                "file:1/model.py": {"bytes_param": base64_text(DOUBLING)},
            },
        },
    ),
    infer_after_load_with_file_over_gRPC=ASK,
    load_with_unknown_parameter_over_gRPC=rpc(
        "RepositoryModelLoad", {"model_name": "identity_fp32", "parameters": {"x": {"string_param": "y"}}}
    ),
    unload_over_gRPC=rpc("RepositoryModelUnload", {"model_name": "identity_fp32"}),
    unload_unknown_over_gRPC=rpc("RepositoryModelUnload", {"model_name": "nope"}),
    index_over_gRPC=rpc("RepositoryIndex"),
    index_of_ready_models_over_gRPC=rpc("RepositoryIndex", {"ready": True}),
    load_all_datatypes=load("every_datatype"),
    infer_of_all_datatypes=infer(
        "every_datatype",
        {"inputs": [tensor("IN_INT32", "INT32", [1, 16], COUNT), tensor("IN_BOOL", "BOOL", [1, 1], [True])]},
    ),
)
#: The index is asked for until models have come to rest.
CONTROL = [
    msgspec.structs.replace(scenario, settle=True) if scenario.name.startswith("index") else scenario
    for scenario in WRITTEN
]


def set_log(**settings: Any) -> HttpRequest:
    return post("/v2/logging", settings)


LOGGING = scenarios(
    settings_at_start=get("/v2/logging"),
    settings_at_start_over_gRPC=rpc("LogSettings"),
    nothing_to_change=set_log(),
    empty_body=post("/v2/logging"),
    bad_json=post("/v2/logging", "{nope"),
    a_list=post("/v2/logging", []),
    unknown_setting=set_log(nope=1),
    unknown_setting_beside_a_good_one=set_log(log_verbose_level=3, nope=1),
    after_an_unknown_setting_beside_a_good_one=get("/v2/logging"),
    info_off=set_log(log_info=False),
    warning_off=set_log(log_warning=False),
    error_off=set_log(log_error=False),
    verbose_level=set_log(log_verbose_level=1),
    iso_format=set_log(log_format="ISO8601"),
    unknown_format=set_log(log_format="nope"),
    log_file=set_log(log_file="elsewhere.log"),
    empty_log_file=set_log(log_file=""),
    info_of_the_wrong_type=set_log(log_info="yes"),
    info_as_a_number=set_log(log_info=1),
    verbose_level_of_the_wrong_type=set_log(log_verbose_level="1"),
    verbose_level_as_a_bool=set_log(log_verbose_level=True),
    verbose_level_negative=set_log(log_verbose_level=-1),
    format_of_the_wrong_type=set_log(log_format=1),
    several=set_log(log_info=True, log_warning=True, log_error=True, log_verbose_level=0, log_format="default"),
    settings_after_all=get("/v2/logging"),
    change_over_gRPC=rpc(
        "LogSettings",
        {"settings": {"log_info": {"bool_param": False}, "log_verbose_level": {"uint32_param": 2}}},
    ),
    format_over_gRPC=rpc("LogSettings", {"settings": {"log_format": {"string_param": "ISO8601"}}}),
    unknown_format_over_gRPC=rpc("LogSettings", {"settings": {"log_format": {"string_param": "nope"}}}),
    unknown_setting_over_gRPC=rpc("LogSettings", {"settings": {"nope": {"bool_param": True}}}),
    log_file_over_gRPC=rpc("LogSettings", {"settings": {"log_file": {"string_param": "elsewhere.log"}}}),
    info_of_the_wrong_type_over_gRPC=rpc("LogSettings", {"settings": {"log_info": {"string_param": "yes"}}}),
    level_of_the_wrong_type_over_gRPC=rpc("LogSettings", {"settings": {"log_verbose_level": {"bool_param": True}}}),
    settings_after_all_over_gRPC=rpc("LogSettings"),
)
