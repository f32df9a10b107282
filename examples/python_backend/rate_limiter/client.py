"""Asks four instances of two models at the same time, and looks how many of them worked at once."""

import itertools
import json
import sys

import numpy as np
import tritonclient.http as triton


def run(http: str = "localhost:8000") -> dict:
    tensor = triton.InferInput("MS", [1], "INT32")
    tensor.set_data_from_numpy(np.array([20], dtype=np.int32))
    with triton.InferenceServerClient(http, concurrency=6) as client:
        asked = [client.async_infer(model, [tensor]) for model in ("press_left", "press_right") * 3]
        times = sorted(each.get_result().as_numpy("TIMES_NS").tolist() for each in asked)
    overlapping = sum(later[0] < earlier[1] for earlier, later in itertools.pairwise(times))
    return {"requests": len(times), "overlapping": overlapping}


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
