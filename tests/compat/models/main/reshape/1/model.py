"""Tells the shapes in which its inputs reached it and answers them in those shapes."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            scalar = pb_utils.get_input_tensor_by_name(request, "SCALAR").as_numpy()
            square = pb_utils.get_input_tensor_by_name(request, "SQUARE").as_numpy()
            shapes = [str(scalar.shape).encode(), str(square.shape).encode()]
            told = np.array([shapes] * square.shape[0], dtype=np.object_)
            outputs = [
                pb_utils.Tensor("SHAPES", told),
                pb_utils.Tensor("SQUARE_OUT", square),
                pb_utils.Tensor("SCALAR_OUT", scalar),
            ]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
