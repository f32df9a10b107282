"""Has a model made, loaded, asked and unloaded, twice."""

import json
import sys

import numpy as np
import tritonclient.http as triton


def run(http: str = "localhost:8000") -> dict:
    found = {}
    with triton.InferenceServerClient(http) as client:
        for factor in (2, 10):
            inputs = [tensor("FACTOR", [factor]), tensor("X", [1, 2, 3])]
            answer = client.infer("librarian", inputs)
            found[f"times {factor}"] = answer.as_numpy("Y").tolist()
            found["ready before, between, after"] = answer.as_numpy("READY").tolist()
    return found


def tensor(name, values):
    made = triton.InferInput(name, [len(values)], "FP32")
    made.set_data_from_numpy(np.array(values, dtype=np.float32))
    return made


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
