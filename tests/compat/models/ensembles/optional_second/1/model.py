"""Adds its second input, 100 without it."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            left, right = (pb_utils.get_input_tensor_by_name(request, name) for name in "AB")
            values = left.as_numpy() + (100 if right is None else right.as_numpy())
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("SUM", values)]))
        return responses
