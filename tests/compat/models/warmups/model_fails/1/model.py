"""Refuses three numbers."""

import triton_python_backend_utils as pb_utils


def answer(request):
    numbers = pb_utils.get_input_tensor_by_name(request, "NUMBERS").as_numpy()
    error = pb_utils.TritonError("not three, please") if numbers.shape[1] == 3 else None
    return pb_utils.InferenceResponse([], error)


class TritonPythonModel:
    def execute(self, requests):
        return [answer(request) for request in requests]
