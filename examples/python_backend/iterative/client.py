"""Asks for several numbers at once; each request is one request, however many steps it takes."""

import json
import sys

import numpy as np
import tritonclient.http as triton


def run(http: str = "localhost:8000") -> dict:
    numbers = (1, 6, 27, 7)
    with triton.InferenceServerClient(http, concurrency=len(numbers)) as client:
        asked = {}
        for number in numbers:
            tensor = triton.InferInput("NUMBER", [1, 1], "INT64")
            tensor.set_data_from_numpy(np.array([[number]], dtype=np.int64))
            asked[str(number)] = client.async_infer("hailstone", [tensor])
        return {number: each.get_result().as_numpy("STEPS").item() for number, each in asked.items()}


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
