"""Calls the models that call another one, and one of them so that the other one fails."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def run(http: str = "localhost:8000") -> dict:
    with triton.InferenceServerClient(http) as client:
        found = {
            "power": client.infer("power", [x(2, 3), exponent(5)]).as_numpy("POWER").tolist(),
            "table": client.infer("products", [x(1, 2, 3)]).as_numpy("TABLE").tolist(),
        }
        for name, inputs in (("refused", [x(2), exponent(0)]), ("passed on", [x(1e200), exponent(2)])):
            try:
                client.infer("power", inputs)
            except InferenceServerException as error:
                found[name] = error.message()
    return found


def x(*values):
    tensor = triton.InferInput("X", [len(values)], "FP64")
    tensor.set_data_from_numpy(np.array(values, dtype=np.float64))
    return tensor


def exponent(value):
    tensor = triton.InferInput("EXPONENT", [1], "INT32")
    tensor.set_data_from_numpy(np.array([value], dtype=np.int32))
    return tensor


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
