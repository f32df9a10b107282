"""Models that do not load: at the start of the server, and on demand."""

from __future__ import annotations

from ..messages import MODELS_DIRECTORY, Scenario
from .build import get, infer, post, rpc, scenarios, settled, tensor

MODELS = sorted(path.name for path in (MODELS_DIRECTORY / "broken").iterdir())
BODY = {"inputs": [tensor("INPUT0", "FP32", [1, 1], [1])]}

AT_START = [
    *scenarios(
        live=get("/v2/health/live"),
        ready=get("/v2/health/ready"),
        index=post("/v2/repository/index"),
        index_of_ready_models=post("/v2/repository/index", {"ready": True}),
        index_over_gRPC=rpc("RepositoryIndex"),
        ready_over_gRPC=rpc("ServerReady"),
        fine=infer("fine", BODY),
    ),
    *settled(statistics=get("/v2/models/stats")),
    *(Scenario(f"{model} ready", get(f"/v2/models/{model}/ready")) for model in MODELS),
    *(Scenario(f"metadata of {model}", get(f"/v2/models/{model}")) for model in MODELS),
    *(Scenario(f"infer of {model}", infer(model, BODY)) for model in MODELS),
]

ON_DEMAND = [
    *scenarios(index_at_start=post("/v2/repository/index"), ready=get("/v2/health/ready")),
    *(Scenario(f"load {model}", post(f"/v2/repository/models/{model}/load")) for model in MODELS),
    *scenarios(
        index_after_the_loads=post("/v2/repository/index"),
        ready_after_the_loads=get("/v2/health/ready"),
        infer_of_a_model_that_failed=infer("initialize_raises", BODY),
        load_over_gRPC=rpc("RepositoryModelLoad", {"model_name": "initialize_raises"}),
    ),
]
