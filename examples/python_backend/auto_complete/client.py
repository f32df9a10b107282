"""Reads the configurations that the two models completed, and calls them."""

import json
import sys

import numpy as np
import tritonclient.http as triton


def run(http: str = "localhost:8000") -> dict:
    found = {}
    with triton.InferenceServerClient(http) as client:
        for model in ("completed_batched", "completed_plain"):
            config = client.get_model_config(model)
            found[model] = {
                "inputs": {
                    each["name"]: [each["data_type"], each["dims"], each["optional"]] for each in config["input"]
                },
                "outputs": {each["name"]: [each["data_type"], each["dims"]] for each in config["output"]},
                "max_batch_size": config["max_batch_size"],
                "batches": "dynamic_batching" in config,
            }
        words = text("WORDS", [["in", "the"], ["beginning", "ä"]])
        found["lengths"] = client.infer("completed_batched", [words]).as_numpy("LENGTHS").tolist()
        times = triton.InferInput("TIMES", [1], "INT32")
        times.set_data_from_numpy(np.array([3], dtype=np.int32))
        for name, inputs in (("twice", [text("WORD", ["ho"])]), ("three times", [text("WORD", ["ho"]), times])):
            found[name] = client.infer("completed_plain", inputs).as_numpy("REPEATED")[0].decode()
    return found


def text(name, words):
    array = np.array(words, dtype=object)
    tensor = triton.InferInput(name, list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array)
    return tensor


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
