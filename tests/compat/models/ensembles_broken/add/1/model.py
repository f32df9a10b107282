"""Adds two tensors."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            left, right = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in "AB")
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("SUM", left + right)]))
        return responses
