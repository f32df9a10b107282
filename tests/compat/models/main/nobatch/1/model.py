"""Answers its input with itself and the sum of its elements; takes no batches."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            total = np.array([values.sum(dtype=np.float64)])
            outputs = [pb_utils.Tensor("OUTPUT0", values), pb_utils.Tensor("SUM", total)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
