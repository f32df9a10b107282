"""Answers its input; -1 is an error, -2 raises."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()) for request in requests]

    def answer(self, values):
        if values[0] == -1:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("no minus one"))
        if values[0] == -2:
            raise ValueError("no minus two")
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values)])
