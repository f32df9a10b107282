"""Adds and subtracts over HTTP, and shows what an error looks like."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def run(http: str = "localhost:8000") -> dict:
    with triton.InferenceServerClient(http) as client:
        answer = client.infer("add_sub", inputs([1, 2, 3], [0.5, 0.25, 4]))
        found = {name: answer.as_numpy(name).tolist() for name in ("SUM", "DIFFERENCE")}
        try:
            client.infer("add_sub", inputs([1, 2, 3], [1, 2]))
        except InferenceServerException as error:
            found["error"] = error.message()
    return found


def inputs(a, b):
    tensors = []
    for name, numbers in {"A": a, "B": b}.items():
        tensor = triton.InferInput(name, [len(numbers)], "FP32")
        tensor.set_data_from_numpy(np.array(numbers, dtype=np.float32))
        tensors.append(tensor)
    return tensors


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
