"""Answers its input with itself, and always an empty BYTES tensor."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            nothing = np.empty((values.shape[0], 0), dtype=np.object_)
            outputs = [pb_utils.Tensor("OUTPUT0", values), pb_utils.Tensor("TEXT", nothing)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
