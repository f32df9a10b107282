"""The response cache: what is answered from it, what is counted, and which models it is not for.

COUNT tells an answer of the model from one of the cache.
"""

from __future__ import annotations

from typing import Any

from ..messages import HttpRequest
from .build import base64_text, fp32, get, infer, infer_binary, post, rpc, scenarios, settled, tensor


def ask(model: str, rows: list[list[float]], **fields: Any) -> HttpRequest:
    values = [value for row in rows for value in row]
    return infer(model, {"inputs": [tensor("INPUT0", "FP32", [len(rows), len(rows[0])], values)], **fields})


ONE = [[1.0, 2.0]]
COUNT_ALONE = [{"name": "COUNT"}]
IN_BINARY = infer_binary(
    "counting", {"inputs": [tensor("INPUT0", "FP32", [1, 2], binary_data_size=8)]}, fp32([1.0, 2.0])
)
OVER_GRPC = rpc(
    "ModelInfer",
    {
        "model_name": "counting",
        "id": "g",
        "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 2]}],
        "raw_input_contents": [base64_text(fp32([1.0, 2.0]))],
    },
)

#: The flags of a server whose metrics page is not the usual one.
LATENCIES_FLAGS = (
    "--metrics-config=summary_latencies=true",
    "--metrics-config=counter_latencies=false",
    "--metrics-config=summary_quantiles=0.1:0.01,0.75:0.01",
    "--cache-config=local,size=1048576",
)
LATENCIES = [
    *scenarios(first=ask("counting", ONE), equal=ask("counting", ONE), direct=ask("direct", ONE)),
    *scenarios(uncached=ask("uncached", ONE)),
    *settled(metrics=get("/metrics", port="metrics")),
]

CACHE = [
    *scenarios(metrics_before_any_request=get("/metrics", port="metrics")),
    *scenarios(
        first=ask("counting", ONE),
        equal=ask("counting", ONE),
        equal_with_an_id=ask("counting", ONE, id="again"),
        equal_of_the_version=infer("counting", {"inputs": [tensor("INPUT0", "FP32", [1, 2], ONE[0])]}, version="1"),
        equal_with_priority_and_timeout=ask("counting", ONE, parameters={"priority": 1, "timeout": 9000000}),
        equal_in_binary=IN_BINARY,
        equal_answered_in_binary=ask("counting", ONE, parameters={"binary_data_output": True}),
        equal_over_gRPC=OVER_GRPC,
        other_values=ask("counting", [[1.0, 3.0]]),
        batch_of_three=ask("counting", ONE * 3),
        equal_batch_of_three=ask("counting", ONE * 3),
        without_its_input=infer("counting", {"inputs": []}),
        of_a_model_without_cache=ask("uncached", ONE),
        equal_of_a_model_without_cache=ask("uncached", ONE),
        of_an_ensemble=ask("composed", ONE, outputs=COUNT_ALONE),
        equal_of_an_ensemble=ask("composed", ONE, outputs=COUNT_ALONE),
    ),
    *settled(
        statistics=get("/v2/models/counting/stats"),
        statistics_of_a_model_without_cache=get("/v2/models/uncached/stats"),
        statistics_of_an_ensemble=get("/v2/models/composed/stats"),
        statistics_over_gRPC=rpc("ModelStatistics", {"name": "counting"}),
        metrics=get("/metrics", port="metrics"),
    ),
    *scenarios(
        first_of_another_model=ask("direct", ONE),
        equal_of_another_model=ask("direct", ONE),
        same_values_in_another_shape=ask("direct", [[1.0], [2.0]]),
        with_a_parameter=ask("direct", ONE, parameters={"top_k": 5}),
        with_another_parameter=ask("direct", ONE, parameters={"top_k": 6}),
        one_output=ask("direct", ONE, outputs=[{"name": "OUTPUT0"}]),
        another_output=ask("direct", ONE, outputs=COUNT_ALONE),
        all_outputs_by_name=ask("direct", ONE, outputs=[{"name": "COUNT"}, {"name": "OUTPUT0"}]),
        of_a_sequence=ask("direct", ONE, parameters={"sequence_id": 5, "sequence_start": True}),
        error=ask("direct", [[-1.0, 2.0]]),
        equal_error=ask("direct", [[-1.0, 2.0]]),
    ),
]

#: Without --cache-config.
DEFAULT = scenarios(first=ask("counting", ONE), equal=ask("counting", ONE))

REFUSED = scenarios(
    load_of_a_decoupled_model=post("/v2/repository/models/decoupled/load"),
    load_of_a_model_of_sequences=post("/v2/repository/models/sequences/load"),
    load_of_a_decoupled_model_over_gRPC=rpc("RepositoryModelLoad", {"model_name": "decoupled"}),
)
