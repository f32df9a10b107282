"""Sends texts and looks at what the model added to the metrics page."""

import json
import re
import sys
import urllib.request

import numpy as np
import tritonclient.http as triton


def run(http: str = "localhost:8000", metrics: str = "localhost:8002") -> dict:
    before = read(metrics)
    with triton.InferenceServerClient(http) as client:
        for text in ("one two three", "four five"):
            tensor = triton.InferInput("TEXT", [1], "BYTES")
            tensor.set_data_from_numpy(np.array([text], dtype=object))
            client.infer("counted", [tensor])
    after = read(metrics)
    total = "example_words_total"
    return {
        "words counted": after[total] - before[total],
        "words of the last text": after["example_last_text_words"],
        "described": after["described"],
    }


def read(metrics):
    with urllib.request.urlopen(f"http://{metrics}/metrics") as answer:
        page = answer.read().decode()
    values = re.findall(r'^(example_\w+)\{model="counted",version="1"\} (\S+)$', page, re.MULTILINE)
    described = re.findall(r"^# (?:HELP|TYPE) example_.*$", page, re.MULTILINE)
    return {name: float(value) for name, value in values} | {"described": sorted(described)}


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
