"""Queue policies: full queues, timeouts, priorities; and deadlines of clients."""

from __future__ import annotations

from typing import Any

from ..messages import Concurrent, GrpcRequest, HttpRequest, Scenario
from .build import base64_text, fp32, infer, tensor


def slow(seconds: float, model: str = "slow", **parameters: Any) -> HttpRequest:
    body: dict[str, Any] = {"id": f"{seconds}", "inputs": [tensor("SECONDS", "FP32", [1, 1], [seconds])]}
    if parameters:
        body["parameters"] = parameters
    return infer(model, body)


def slow_rpc(seconds: float, model: str = "slow", timeout_s: float = 20.0, **parameters: int) -> GrpcRequest:
    message = {
        "model_name": model,
        "inputs": [{"name": "SECONDS", "datatype": "FP32", "shape": [1, 1]}],
        "parameters": {key: {"int64_param": str(value)} for key, value in parameters.items()},
        "raw_input_contents": [base64_text(fp32([seconds]))],
    }
    return GrpcRequest("ModelInfer", [message], timeout_s=timeout_s)


SCENARIOS = [
    Scenario("one request", slow(0.0)),
    # 0.3 s apart: the first executes, the second fills the queue.
    Scenario("full queue", Concurrent([slow(1.5), slow(0.0), slow(0.0), slow(0.0)])),
    Scenario("full queue over gRPC", Concurrent([slow_rpc(1.5), *[slow_rpc(0.0) for _ in range(3)]])),
    # `slow` has no default timeout that a request could shorten.
    Scenario("timeout of a request", Concurrent([slow(1.2), slow(0.0, timeout=200000)])),
    Scenario("timeout of a request over gRPC", Concurrent([slow_rpc(1.2), slow_rpc(0.0, timeout=200000)])),
    Scenario("timeout long enough", Concurrent([slow(0.8), slow(0.0, timeout=9000000)])),
    Scenario("default timeout", Concurrent([slow(1.2, "delayed"), slow(0.0, "delayed"), slow(0.0, "delayed")])),
    Scenario(
        "timeout shorter than the default",
        Concurrent([slow(1.2, "delayed"), slow(0.0, "delayed", priority=3, timeout=200000)]),
    ),
    Scenario(
        "timeout longer than the default",
        Concurrent([slow(0.8, "delayed"), slow(0.0, "delayed", priority=3, timeout=9000000)]),
    ),
    Scenario(
        "timeout shorter than the default over gRPC",
        Concurrent([slow_rpc(1.2, "delayed"), slow_rpc(0.0, "delayed", priority=3, timeout=200000)]),
    ),
    Scenario(
        "override of the timeout not allowed",
        Concurrent([slow(1.2, "delayed"), slow(0.0, "delayed"), slow(0.0, "delayed", timeout=9000000)]),
    ),
    Scenario(
        "delay instead of reject",
        Concurrent([slow(1.2, "delayed"), slow(0.0, "delayed"), slow(0.0, "delayed", priority=1)]),
    ),
    Scenario("priority too large", slow(0.0, "delayed", priority=4)),
    Scenario("priority zero is the default", slow(0.0, "delayed", priority=0)),
    Scenario("priority negative", slow(0.0, "delayed", priority=-1)),
    Scenario("deadline of the client", slow_rpc(1.0, timeout_s=0.4)),
    Scenario("after all of that", slow(0.0)),
]
