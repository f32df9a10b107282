"""Is executed once for each of as many times as its input says, and answers what it was told each time."""

import numpy as np
import triton_python_backend_utils as pb_utils


def seen(request):
    words = [f"flags={request.flags()}"]
    for name in ("START", "END", "READY"):
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is not None:
            words.append(f"{name}={tensor.as_numpy().tolist()}")
    return " ".join(words)


class TritonPythonModel:
    def initialize(self, args):
        self.seen = {}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        wanted = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
        ready = pb_utils.get_input_tensor_by_name(request, "READY").as_numpy()
        if not ready.any():
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", wanted)])
        key = request.correlation_id()
        told = self.seen.setdefault(key, [])
        told.append(seen(request))
        if len(told) < int(wanted[0, 0]):
            request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            return None
        words = np.array([["; ".join(self.seen.pop(key)).encode()]], dtype=np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", wanted), pb_utils.Tensor("TOLD", words)])
