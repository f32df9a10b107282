"""Adds its two inputs, element by element."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        left = pb_utils.get_input_tensor_by_name(request, "LEFT").as_numpy()
        right = pb_utils.get_input_tensor_by_name(request, "RIGHT").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", (left + right).astype(np.int32))])
