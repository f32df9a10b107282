"""Asks both models for the totals of some countdowns."""

import json
import sys

import numpy as np
import tritonclient.http as triton


def run(http: str = "localhost:8000") -> dict:
    starts = np.array([3, 0, 10], dtype=np.int32)
    tensor = triton.InferInput("FROM", [len(starts)], "INT32")
    tensor.set_data_from_numpy(starts)
    with triton.InferenceServerClient(http) as client:
        return {model: client.infer(model, [tensor]).as_numpy("TOTAL").tolist() for model in ("total", "total_async")}


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
