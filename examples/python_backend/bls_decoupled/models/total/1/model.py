"""Calls a decoupled model and adds up its responses as they come."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            starts = pb_utils.get_input_tensor_by_name(request, "FROM").as_numpy()
            totals = np.array([self.total(start) for start in starts], dtype=np.int32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("TOTAL", totals)]))
        return responses

    def total(self, start):
        call = pb_utils.InferenceRequest(
            model_name="countdown",
            requested_output_names=["NUMBER"],
            inputs=[pb_utils.Tensor("FROM", np.array([start], dtype=np.int32))],
        )
        total = 0
        for response in call.exec(decoupled=True):
            if response.has_error():
                raise pb_utils.TritonModelException(response.error().message())
            if response.output_tensors():  # the last response may only say that it is the last one
                total += int(pb_utils.get_output_tensor_by_name(response, "NUMBER").as_numpy()[0])
        return total
