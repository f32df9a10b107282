"""Reads parameters of the request, and sends some beside the tensors of the response."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            asked = json.loads(request.parameters())
            text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()[0].decode()
            upper = text.upper() if asked.get("shout", True) else text
            parameters = {"letters": len(text), "shouted": upper != text, "greeting": asked.get("greeting", "none")}
            outputs = [pb_utils.Tensor("UPPER", np.array([upper], dtype=object))]
            responses.append(pb_utils.InferenceResponse(outputs, parameters=parameters))
        return responses
