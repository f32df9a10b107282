"""Ensembles: what they answer, how they are counted, how they come and go with the models they use."""

from __future__ import annotations

from typing import Any

from ..messages import MODELS_DIRECTORY, GrpcRequest, HttpRequest, Scenario
from .build import base64_text, fp32, get, infer, infer_binary, post, rpc, scenarios, settled, tensor

#: A second load of an ensemble that failed is answered differently by Triton, so each is loaded once.
LOADED_OVER_GRPC = "missing_model"
BROKEN = sorted(path.name for path in (MODELS_DIRECTORY / "ensembles_broken").iterdir())


def ask(model: str, *values: float, shape: tuple[int, ...] = (), name: str = "X", **changes: Any) -> HttpRequest:
    """A request with one FP32 input: a batch of one, unless there is a shape."""
    inputs = [tensor(name, "FP32", shape or (1, len(values)), list(values))]
    return infer(model, {"inputs": inputs, **changes})


def wants(*names: str) -> list[dict[str, str]]:
    return [{"name": name} for name in names]


def ask_over_grpc(model: str, *values: float, **changes: Any) -> GrpcRequest:
    message = {
        "model_name": model,
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [1, len(values)]}],
        "raw_input_contents": [base64_text(fp32(values))],
    }
    return rpc("ModelInfer", {**message, **changes})


TWO_INPUTS = {"inputs": [tensor("X", "FP32", [1, 2], [1, 2]), tensor("MORE", "FP32", [1, 2], [3, 4])]}
ONLY_MORE = {"inputs": [tensor("MORE", "FP32", [1, 2], [3, 4])], "outputs": wants("Z")}
CUSTOM = {"top_k": 3, "threshold": 0.5, "mode": "fast", "strict": True}
SEQUENCE = {"sequence_id": 7, "sequence_start": True, "sequence_end": True}
BINARY = {"inputs": [tensor("X", "FP32", [1, 2], binary_data_size=8)], "outputs": [{"name": "Y"}]}
BINARY_BOTH_WAYS = {**BINARY, "outputs": [{"name": "Y", "parameters": {"binary_data": True}}]}
CLASSES = {
    "inputs": [tensor("X", "FP32", [1, 4], [1, 5, 3, 4])],
    "outputs": [{"name": "Y", "parameters": {"classification": 2}}],
}

ANSWERS = scenarios(
    index=post("/v2/repository/index"),
    ready=get("/v2/health/ready"),
    model_ready=get("/v2/models/chain/ready"),
    version_ready=get("/v2/models/chain/versions/1/ready"),
    metadata=get("/v2/models/chain"),
    metadata_of_two_outputs=get("/v2/models/inner_as_output"),
    metadata_without_batches=get("/v2/models/double_in_matrix"),
    metadata_over_gRPC=rpc("ModelMetadata", {"name": "chain"}),
    config=get("/v2/models/chain/config"),
    config_over_gRPC=rpc("ModelConfig", {"name": "chain"}),
    chain=ask("chain", 1, 2),
    chain_with_an_id=ask("chain", 1, 2, id="me"),
    chain_of_a_batch=ask("chain", 1, 2, 3, 4, shape=(2, 2)),
    chain_of_too_large_a_batch=ask("chain", *range(9), shape=(9, 1)),
    chain_with_an_unknown_input=ask("chain", 1, name="Q"),
    chain_without_inputs=infer("chain", {"inputs": []}),
    chain_of_another_datatype=infer("chain", {"inputs": [tensor("X", "INT32", [1, 1], [1])]}),
    chain_over_gRPC=ask_over_grpc("chain", 1, 2, id="me"),
    chain_in_a_stream=GrpcRequest("ModelStreamInfer", ask_over_grpc("chain", 1, 2).messages * 2),
    chain_from_binary=infer_binary("chain", BINARY, fp32([1, 2])),
    chain_to_binary=infer_binary("chain", BINARY_BOTH_WAYS, fp32([1, 2])),
    unknown_version_of_the_chain=infer("chain", {"inputs": []}, version="7"),
    diamond=ask("diamond", 1, 2),
    twice_the_same=ask("twice_the_same", 1, 2),
    nested=ask("nested", 1, 2, id="me"),
    first_version=ask("first_version", 1, 2),
    inner_tensor_as_output=ask("inner_as_output", 1, 2),
    inner_tensor_alone=ask("inner_as_output", 1, 2, outputs=wants("INNER")),
    last_output_alone=ask("inner_as_output", 1, 2, outputs=wants("Y")),
    tensor_that_is_no_output=ask("diamond", 1, 2, outputs=wants("left")),
    parameters_at_the_first_step=ask("seen_first", 1, parameters=CUSTOM, id="me", outputs=wants("FIRST")),
    parameters_at_the_last_step=ask("seen_last", 1, parameters=CUSTOM, outputs=wants("LAST")),
    sequence_at_the_first_step=ask("seen_first", 1, parameters=SEQUENCE, outputs=wants("FIRST")),
    sequence_at_the_last_step=ask("seen_last", 1, parameters=SEQUENCE, outputs=wants("LAST")),
    named_sequence=ask("seen_last", 1, parameters={"sequence_id": "s", "sequence_end": True}, outputs=wants("LAST")),
    timeout_and_priority=ask("seen_last", 1, parameters={"timeout": 5000000, "priority": 2}, outputs=wants("LAST")),
    parameters_over_gRPC=ask_over_grpc("seen_last", 1, parameters={"top_k": {"int64_param": 3}}, outputs=wants("LAST")),
    optional_input_left_out=ask("optional", 1, 2),
    optional_input_given=infer("optional", TWO_INPUTS),
    optional_input_that_a_step_needs_given=infer("optional_for_none", {**TWO_INPUTS, "outputs": wants("Z")}),
    optional_input_that_a_step_needs_left_out=ask("optional_for_none", 1, 2),
    optional_input_that_no_wanted_output_needs=ask("optional_for_none", 1, 2, outputs=wants("Y")),
    only_the_optional_input=infer("optional_for_none", ONLY_MORE),
    optional_input_of_a_step_not_mapped=ask("unmapped_optional", 1, 2),
    step_raises=ask("moody_alone", -1),
    step_answers_invalid_argument=ask("moody_alone", -2),
    step_answers_unavailable=ask("moody_alone", -3),
    step_answers_cancelled=ask("moody_alone", -4),
    step_answers_not_found=ask("moody_alone", -8),
    step_answers_nothing=ask("moody_alone", -5, id="me"),
    step_answers_another_rank=ask("moody_alone", -6),
    step_answers_another_datatype=ask("moody_alone", -7),
    step_raises_over_gRPC=ask_over_grpc("moody_alone", -1),
    step_answers_unavailable_over_gRPC=ask_over_grpc("moody_alone", -3),
    step_raises_in_a_stream=GrpcRequest("ModelStreamInfer", ask_over_grpc("moody_alone", -1).messages),
    nothing_for_the_next_step=ask("moody_first", -5, id="me"),
    another_rank_for_the_next_step=ask("moody_first", -6, id="me"),
    another_datatype_for_the_next_step=ask("moody_first", -7),
    step_of_a_nested_ensemble_raises=ask("moody_inside", -1),
    step_of_a_nested_ensemble_answers_an_error=ask("moody_inside", -2),
    failing_step_that_is_not_needed=ask("moody_apart", -1, outputs=wants("Y")),
    failing_step_beside_a_good_one=ask("moody_apart", -1),
    size_that_fits_the_next_step=ask("four_inside", 1, 2, 3, 4),
    size_that_does_not_fit_the_next_step=ask("four_inside", 1, 2, 3, id="me"),
    step_without_batches=ask("matrix_inside", 1, 2, 3, 4, shape=(2, 2)),
    step_with_batches_in_an_ensemble_without=ask("double_in_matrix", 1, 2, 3, 4, shape=(2, 2)),
    too_large_a_batch_for_a_step=ask("double_in_matrix", *range(9), shape=(9, 1)),
    batch_of_one_for_a_step_without_batches=ask("pair_inside", 1, 2),
    batch_of_two_for_a_step_without_batches=ask("pair_inside", 1, 2, 3, 4, shape=(2, 2)),
    no_batch_for_a_step_with_batches=ask("double_in_pair", 1, 2, shape=(2,)),
    reshaped=ask("reshaped", 1, 2, 3, 4, shape=(1, 2, 2)),
    reshaped_over_gRPC=ask_over_grpc("reshaped", 1, 2, 3, 4, inputs=[{**tensor("X", "FP32", [1, 2, 2])}]),
    classes=infer("labelled", CLASSES),
)

#: What the counted models are asked before they are asked for their numbers.
COUNTED = scenarios(
    load_nested=post("/v2/repository/models/nested/load"),
    load_moody_first=post("/v2/repository/models/moody_first/load"),
    before_any_request=get("/v2/models/nested/stats"),
    nested=ask("nested", 1, 2),
    nested_of_a_batch=ask("nested", *range(6), shape=(3, 2)),
    chain=ask("chain", 1, 2),
    moody=ask("moody_first", 1),
    refused=ask("nested", 1, name="Q"),
)

STATISTICS = [
    *COUNTED,
    *settled(
        of_the_outer_ensemble=get("/v2/models/nested/stats"),
        of_the_inner_ensemble=get("/v2/models/chain/stats"),
        of_the_steps=get("/v2/models/double/stats"),
        of_all=get("/v2/models/stats"),
        of_an_ensemble_over_gRPC=rpc("ModelStatistics", {"name": "nested"}),
    ),
    *scenarios(failing=ask("moody_first", -1)),
    *settled(after_a_failure=get("/v2/models/moody_first/stats")),
]

METRICS = [*COUNTED, *settled(metrics=get("/metrics", port="metrics"))]


def load(model: str) -> HttpRequest:
    return post(f"/v2/repository/models/{model}/load")


def unload(model: str, dependents: bool | None = None) -> HttpRequest:
    body = None if dependents is None else {"parameters": {"unload_dependents": dependents}}
    return post(f"/v2/repository/models/{model}/unload", body)


def watched(**requests: HttpRequest) -> list[Scenario]:
    """Each request, followed by the index of ready models once they have come to rest."""
    found: list[Scenario] = []
    for name, request in requests.items():
        said = name.replace("_", " ")
        index = post("/v2/repository/index", {"ready": True})
        found += [Scenario(said, request), Scenario(f"index after {said}", index, settle=True)]
    return found


CONTROL = [
    *watched(load_nested=load("nested"), unload_nested=unload("nested"), load_nested_again=load("nested")),
    *scenarios(infer_after_load=ask("nested", 1, 2)),
    *watched(unload_a_step=unload("double")),
    *scenarios(
        infer_without_the_step=ask("nested", 1, 2),
        ready_without_the_step=get("/v2/models/nested/ready"),
        metadata_without_the_step=get("/v2/models/nested"),
        config_without_the_step=get("/v2/models/chain/config"),
        statistics_without_the_step=get("/v2/models/nested/stats"),
        metadata_without_the_step_over_gRPC=rpc("ModelMetadata", {"name": "nested"}),
    ),
    *settled(index_without_the_step=post("/v2/repository/index"), server_ready=get("/v2/health/ready")),
    *watched(load_the_step_again=load("double")),
    *scenarios(infer_with_the_step_again=ask("nested", 1, 2)),
    *watched(
        unload_the_inner_ensemble=unload("chain"),
        load_the_step_once_more=load("double"),
        load_the_inner_ensemble=load("chain"),
        unload_nested_with_dependents_of_which_two_were_asked_for=unload("nested", True),
        unload_chain_with_dependents_that_were_asked_for=unload("chain", True),
        unload_double=unload("double"),
        load_nested_alone=load("nested"),
        unload_nested_with_dependents=unload("nested", True),
        load_diamond=load("diamond"),
        load_chain_beside_it=load("chain"),
        unload_diamond_with_dependents_that_chain_shares=unload("diamond", True),
        unload_chain_without_dependents=unload("chain", False),
        unload_an_unknown_model=unload("nope", True),
    ),
    *settled(index_at_the_end=post("/v2/repository/index")),
]


AT_START = [
    *scenarios(
        ready=get("/v2/health/ready"),
        index=post("/v2/repository/index"),
        index_of_ready_models=post("/v2/repository/index", {"ready": True}),
        index_over_gRPC=rpc("RepositoryIndex"),
        fine=ask("fine", 1, 2),
        a_size_that_does_not_fit=ask("variable_before_fixed", 1, 2),
    ),
    *(Scenario(f"{model} ready", get(f"/v2/models/{model}/ready")) for model in BROKEN),
    *(Scenario(f"metadata of {model}", get(f"/v2/models/{model}")) for model in BROKEN),
    *(Scenario(f"infer of {model}", ask(model, 1, 2)) for model in BROKEN),
]

ON_DEMAND = [
    *scenarios(load_over_gRPC=rpc("RepositoryModelLoad", {"model_name": LOADED_OVER_GRPC})),
    *(Scenario(f"load {model}", load(model)) for model in BROKEN if model != LOADED_OVER_GRPC),
    *scenarios(index_after_the_loads=post("/v2/repository/index")),
]
