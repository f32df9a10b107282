"""Adds up the inputs of each sequence, and answers what it was told of the sequence."""

import numpy as np
import triton_python_backend_utils as pb_utils


def control(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def seen(request):
    """Each control with its type and shape; the correlation id and flags of the request itself."""
    words = [f"id={request.correlation_id()!r}", f"flags={request.flags()}"]
    for name in ("START", "END", "READY", "CORRID"):
        array = control(request, name)
        if array is not None:
            words.append(f"{name}={array.dtype}{list(array.shape)}{array.tolist()}")
    return " ".join(words)


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        value = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
        ready = control(request, "READY")
        if ready is not None and not ready.any():
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", value)])
        key = request.correlation_id()
        start = control(request, "START")
        if start is not None and start.any():
            self.sums[key] = 0
        self.sums[key] = self.sums.get(key, 0) + int(value.sum())
        total = np.full(value.shape, self.sums[key], dtype=np.int32)
        told = np.full(value.shape, seen(request).encode(), dtype=np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", total), pb_utils.Tensor("TOLD", told)])
