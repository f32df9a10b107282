"""The model that the others call."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        a = pb_utils.get_input_tensor_by_name(request, "A").as_numpy()
        b = pb_utils.get_input_tensor_by_name(request, "B").as_numpy()
        with np.errstate(over="ignore"):
            product = a * b
        if not np.isfinite(product).all():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("the product is too large"))
        return pb_utils.InferenceResponse([pb_utils.Tensor("PRODUCT", product)])
