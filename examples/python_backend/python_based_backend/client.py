"""Asks two models that one Python-based backend runs."""

import json
import sys

import numpy as np
import tritonclient.http as triton


def run(http: str = "localhost:8000") -> dict:
    tensor = triton.InferInput("NAME", [2, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([["Ada"], ["Alan"]], dtype=object))
    found = {}
    with triton.InferenceServerClient(http) as client:
        for model in ("invitation", "thanks"):
            letters = client.infer(model, [tensor]).as_numpy("LETTER")[:, 0]
            config = client.get_model_config(model)
            found[model] = {
                "backend": config["backend"],
                "runtime": config["runtime"],
                "letters": [letter.decode() for letter in letters],
            }
    return found


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
