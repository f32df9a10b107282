"""Sends four pictures as PNG files, and reads names and probabilities of their patterns."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

sys.path.append(str(Path(__file__).parent))
from patterns import picture

NAVY_AND_SAND = np.array([[20, 30, 90], [230, 200, 140]])


def run(http: str = "localhost:8000") -> dict:
    files = [[png(picture(pattern, 96, NAVY_AND_SAND, 12, 3))] for pattern in range(4)]
    output = triton.InferRequestedOutput("PROBABILITIES", class_count=1)
    with triton.InferenceServerClient(http) as client:
        found = client.infer("which_pattern", [tensor(files)], outputs=[output]).as_numpy("PROBABILITIES")
        best = [each.decode().split(":") for each in found.reshape(-1)]
        answer = {"patterns": [[name, round(float(probability), 2)] for probability, _, name in best]}
        try:
            client.infer("which_pattern", [tensor([[b"no picture"]])])
        except InferenceServerException as error:
            answer["error"] = error.message().split(", ")[-1].split(": ")[-1]
    return answer


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tensor(files):
    made = triton.InferInput("FILE", [len(files), 1], "BYTES")
    made.set_data_from_numpy(np.array(files, dtype=object))
    return made


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
