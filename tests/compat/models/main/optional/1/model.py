"""Sums the inputs that came and tells their names."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            inputs = request.inputs()
            total = sum(tensor.as_numpy() for tensor in inputs)
            names = ",".join(sorted(tensor.name() for tensor in inputs)).encode()
            told = np.full((total.shape[0], 1), names, dtype=np.object_)
            outputs = [pb_utils.Tensor("SUM", total), pb_utils.Tensor("NAMES", told)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
