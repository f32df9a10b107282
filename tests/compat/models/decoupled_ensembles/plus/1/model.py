"""Adds ten; refuses 5, raises at 6."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()) for request in requests]

    def answer(self, numbers):
        if 6 in numbers:
            raise ValueError("no six")
        if 5 in numbers:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("no five"))
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", (numbers + 10).astype(np.int32))])
