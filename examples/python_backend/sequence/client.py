"""Two sequences in turn; a request that belongs to none is refused."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def run(http: str = "localhost:8000") -> dict:
    sequences = {101: [1, 2, 3], 102: [10, 20, 30]}
    sums = {str(sequence): [] for sequence in sequences}
    with triton.InferenceServerClient(http) as client:
        for step in range(3):
            for sequence, numbers in sequences.items():
                tensor = triton.InferInput("NUMBER", [1, 1], "INT32")
                tensor.set_data_from_numpy(np.array([[numbers[step]]], dtype=np.int32))
                flags = {"sequence_start": step == 0, "sequence_end": step == 2}
                answer = client.infer("accumulate", [tensor], sequence_id=sequence, **flags)
                sums[str(sequence)].append(answer.as_numpy("SUM").item())
        try:
            client.infer("accumulate", [tensor], sequence_id=101)
        except InferenceServerException as error:
            refused = error.message()
    return {"sums": sums, "refused": refused}


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
