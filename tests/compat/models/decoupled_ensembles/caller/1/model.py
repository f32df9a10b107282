"""Calls the model that a request names, with its numbers, and tells every response: its numbers, or the error."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        model, decoupled, numbers = json.loads(pb_utils.get_input_tensor_by_name(request, "CALL").as_numpy()[0])
        call = pb_utils.InferenceRequest(
            model_name=model,
            inputs=[pb_utils.Tensor("IN", np.array(numbers, dtype=np.int32))],
            requested_output_names=["OUT"],
        )
        responses = call.exec(decoupled=True) if decoupled else [call.exec()]
        told = np.array([json.dumps(self.told(response)) for response in responses], dtype=np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("ANSWERS", told)])

    def told(self, response):
        if response.has_error():
            return response.error().message().split("\n\nAt:")[0]
        return [tensor.as_numpy().tolist() for tensor in response.output_tensors()]
