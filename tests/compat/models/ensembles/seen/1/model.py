"""Echoes, and tells what it sees of the request."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            seen = {
                "id": request.request_id(),
                "correlation_id": request.correlation_id(),
                "flags": request.flags(),
                "timeout": request.timeout(),
                "parameters": request.parameters(),
                "outputs": sorted(request.requested_output_names()),
            }
            text = np.array([[json.dumps(seen)]] * len(values), dtype=np.object_)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", values), pb_utils.Tensor("SEEN", text)]))
        return responses
