"""Has a number spelled by a module that only the model's environment has."""

import json
import sys

import numpy as np
import tritonclient.http as triton


def run(http: str = "localhost:8000") -> dict:
    tensor = triton.InferInput("NUMBER", [1], "INT32")
    tensor.set_data_from_numpy(np.array([2051], dtype=np.int32))
    with triton.InferenceServerClient(http) as client:
        answer = client.infer("elsewhere", [tensor])
    return {name: answer.as_numpy(name)[0].decode() for name in ("SPELLED", "FOUND_IN")}


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
