"""Failures inside a model, over HTTP and gRPC."""

from __future__ import annotations

from ..messages import Scenario
from .build import base64_text, infer, rpc, tensor

MODES = (
    "fine",
    "raise",
    "raise model exception",
    "UNKNOWN",
    "INTERNAL",
    "NOT_FOUND",
    "INVALID_ARG",
    "UNAVAILABLE",
    "UNSUPPORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
    "default code",
    "error beside outputs",
    "missing output",
    "unknown output",
    "other datatype",
    "other shape",
    "return none",
    "return too few",
    "return a response alone",
    "return strings",
    "fine",
)

SCENARIOS = [
    *(
        Scenario(
            f"{mode} over HTTP ({number})", infer("error_model", {"inputs": [tensor("MODE", "BYTES", [1], [mode])]})
        )
        for number, mode in enumerate(MODES)
    ),
    Scenario(
        "missing output asked for over HTTP",
        infer(
            "error_model",
            {"inputs": [tensor("MODE", "BYTES", [1], ["missing output"])], "outputs": [{"name": "OUTPUT1"}]},
        ),
    ),
    Scenario(
        "error with an id over HTTP",
        infer("error_model", {"id": "abc", "inputs": [tensor("MODE", "BYTES", [1], ["INTERNAL"])]}),
    ),
    *(
        Scenario(
            f"{mode} over gRPC ({number})",
            rpc(
                "ModelInfer",
                {
                    "model_name": "error_model",
                    "inputs": [
                        {
                            "name": "MODE",
                            "datatype": "BYTES",
                            "shape": [1],
                            "contents": {"bytes_contents": [base64_text(mode)]},
                        }
                    ],
                },
            ),
        )
        for number, mode in enumerate(MODES)
    ),
]
