"""Answers what it has been asked so far, the warm-up among it."""

import numpy as np
import triton_python_backend_utils as pb_utils


def described(request):
    words = []
    for tensor in request.inputs():
        array = tensor.as_numpy()
        shown = f"{array.shape}" if tensor.name().startswith("RANDOM") else f"{array.tolist()}"
        words.append(f"{tensor.name()}={array.dtype}{shown}")
    return f"id={request.correlation_id()} flags={request.flags()} " + " ".join(sorted(words))


class TritonPythonModel:
    def initialize(self, args):
        self.seen = []

    def execute(self, requests):
        self.seen.append("[" + "; ".join(map(described, requests)) + "]")
        answer = np.array([["\n".join(self.seen)]], dtype=np.object_)
        tensor = pb_utils.Tensor("SEEN", answer)
        return [pb_utils.InferenceResponse([tensor]) for _ in requests]
